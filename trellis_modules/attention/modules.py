"""Multi-head self and cross attention with optional RMS norm of queries and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trellis_modules.attention.functional import attention
from trellis_modules.attention.segments import Segments
from trellis_modules.attention.variable_length import variable_length_attention
from trellis_modules.norms import head_rms_norm


class MultiHeadRMSNorm(nn.Module):
    """Root-mean-square norm over the channels of each head, computed in float32.

    Source: TRELLIS, arXiv:2412.01506, appendix (QK norm).
    """

    def __init__(self, head_channels: int, num_heads: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(num_heads, head_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(..., H, d) -> (..., H, d) in the dtype of x."""
        return head_rms_norm(x, self.gamma)


class KeyValue(NamedTuple):
    """Keys and values of a context, ready for attention."""

    keys: Tensor  # (B, M, H, d)
    values: Tensor  # (B, M, H, d)

    def repeat(self, times: int) -> KeyValue:
        """Keys and values of the same contexts ``times`` times over, one batch after the other."""
        return self if times == 1 else KeyValue(*(part.repeat(times, 1, 1, 1) for part in self))


def _check_heads(where: str, channels: int, num_heads: int) -> int:
    if channels % num_heads:
        raise ValueError(f"{where}: {channels} channels cannot be split over {num_heads} heads")
    return channels // num_heads


class SelfAttention(nn.Module):
    """Attention of the tokens of each batch element, or of each segment of rows, among themselves."""

    def __init__(
        self, channels: int, num_heads: int, qk_rms_norm: bool = False, *, qkv_bias: bool = True
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_channels = _check_heads("SelfAttention", channels, num_heads)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.q_rms_norm = MultiHeadRMSNorm(head_channels, num_heads) if qk_rms_norm else nn.Identity()
        self.k_rms_norm = MultiHeadRMSNorm(head_channels, num_heads) if qk_rms_norm else nn.Identity()
        self.to_out = nn.Linear(channels, channels)

    def forward(
        self,
        x: Tensor,
        segments: Segments | None = None,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor] = attention,
    ) -> Tensor:
        """(B, L, C) -> (B, L, C); with segments (T, C) -> (T, C).

        ``attend`` says which tokens of a batch element see each other; the default is all.
        """
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)  # each (..., H, d)
        q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        attended = attend(q, k, v) if segments is None else variable_length_attention(q, k, v, segments)
        return self.to_out(attended.flatten(-2))


class CrossAttention(nn.Module):
    """Attention from the tokens of each batch element to its context.

    The context is projected by ``project_context``, apart from the attention, so that a sampler can do it
    once for all its steps.
    """

    def __init__(
        self, channels: int, context_channels: int, num_heads: int, qk_rms_norm: bool = False
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_channels = _check_heads("CrossAttention", channels, num_heads)
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(context_channels, 2 * channels)
        self.q_rms_norm = MultiHeadRMSNorm(head_channels, num_heads) if qk_rms_norm else nn.Identity()
        self.k_rms_norm = MultiHeadRMSNorm(head_channels, num_heads) if qk_rms_norm else nn.Identity()
        self.to_out = nn.Linear(channels, channels)

    def project_context(self, context: Tensor) -> KeyValue:
        """(B, M, D) -> keys and values, each (B, M, H, d)."""
        k, v = self.to_kv(context).unflatten(-1, (2, self.num_heads, -1)).unbind(-3)
        return KeyValue(self.k_rms_norm(k), v)

    def forward(self, x: Tensor, context: KeyValue, segments: Segments | None = None) -> Tensor:
        """(B, L, C) and the projected context -> (B, L, C).

        With segments, one for each batch element of the context: (T, C) -> (T, C).
        """
        q = self.q_rms_norm(self.to_q(x).unflatten(-1, (self.num_heads, -1)))  # (..., H, d)
        if segments is None:
            return self.to_out(attention(q, *context).flatten(-2))
        length = context.keys.shape[1]
        self._check_elements(context, segments)
        keys, values = (part.flatten(0, 1) for part in context)
        attended = variable_length_attention(q, keys, values, segments, segments.contexts_of(length))
        return self.to_out(attended.flatten(-2))

    def join(
        self,
        x: Tensor,
        norm: Callable[[Tensor], Tensor],
        context: KeyValue,
        segments: Segments | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Add the attention of the normalised x to x; shapes as in ``forward``, and ``out`` takes the sum.

        All queries get the same from a context of a single token, as the empty condition is: its value. Then
        neither the norm nor the queries are computed, unless gradients are: those of their parameters, which
        are zero, must be there.
        """
        if context.keys.shape[1] != 1 or torch.is_grad_enabled():
            return torch.add(x, self(norm(x), context, segments), out=out)
        branch = self.to_out(context.values.flatten(-2))  # (B, 1, C)
        if segments is not None:
            self._check_elements(context, segments)
            branch = segments.spread(branch.squeeze(1))
        return torch.add(x, branch, out=out)

    @staticmethod
    def _check_elements(context: KeyValue, segments: Segments) -> None:
        if len(context.keys) != len(segments.lengths):
            raise ValueError(
                f"CrossAttention: expected a context for each of {len(segments.lengths)} batch elements, "
                f"got {len(context.keys)}"
            )
