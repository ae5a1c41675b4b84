"""Transformer blocks steered by adaptive layer norm (DiT).

Norms are numbered as in the released checkpoints: norm1 before self attention, norm2 before cross attention,
norm3 (norm2 where there is no cross attention) before the feed-forward network.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trellis_modules.attention import CrossAttention, KeyValue, Segments, SelfAttention
from trellis_modules.transformer.feed_forward import FeedForward
from trellis_modules.transformer.norm import LayerNorm32

NORM_EPS = 1e-6


class Modulation(NamedTuple):
    """Shift and scale of a branch's input, gate of its output; each (B, 1, C), or (T, C) for sparse rows."""

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def normed(self, norm: LayerNorm32, x: Tensor) -> Tensor:
        """The input of a branch: x, (B, L, C) or (T, C), normalised and modulated."""
        return norm(x, self.shift, self.scale)

    def join(self, x: Tensor, branch: Tensor, out: Tensor | None = None) -> Tensor:
        """Add the gated output of a branch to x, both (B, L, C) or (T, C); ``out`` takes the sum."""
        return torch.addcmul(x, self.gate, branch, out=out)


def modulation_vectors(network: nn.Module, condition: Tensor, channels: int) -> Tensor:
    """What a modulation network makes of a (B, C) condition; vectors that are ready stay as they are."""
    return network(condition) if condition.shape[-1] == channels else condition


def split_modulation(vectors: Tensor, channels: int) -> list[Modulation]:
    """(B, 3 k C) vectors, ordered (shift, scale, gate) k times, as k modulations of C channels."""
    return split_row_modulation(vectors.unsqueeze(1), channels)


def split_row_modulation(vectors: Tensor, channels: int) -> list[Modulation]:
    """(..., 3 k C) vectors as k modulations, each (..., C), for rows that carry their own vectors."""
    parts = vectors.split(channels, dim=-1)
    return [Modulation(*parts[i : i + 3]) for i in range(0, len(parts), 3)]


def modulation_network(channels: int, num_branches: int) -> nn.Sequential:
    """The network from a (B, C) condition to the (B, 3 C num_branches) vectors of ``split_modulation``."""
    return nn.Sequential(nn.SiLU(), nn.Linear(channels, 3 * channels * num_branches))


class ModulatedTransformerBlock(nn.Module):
    """Self attention and feed-forward network, each shifted, scaled and gated by a condition."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qk_rms_norm: bool = False,
        *,
        share_mod: bool = False,
    ) -> None:
        """``share_mod``: the modulation network is the model's, this block has none."""
        super().__init__()
        self.channels = channels
        self.norm1 = LayerNorm32(channels, eps=NORM_EPS, elementwise_affine=False)
        self.norm2 = LayerNorm32(channels, eps=NORM_EPS, elementwise_affine=False)
        self.attn = SelfAttention(channels, num_heads, qk_rms_norm)
        self.mlp = FeedForward(channels, mlp_ratio)
        self.adaLN_modulation = nn.Identity() if share_mod else modulation_network(channels, num_branches=2)

    def branches(
        self, x: Tensor, attn: Modulation, mlp: Modulation, segments: Segments | None = None
    ) -> Tensor:
        """Both branches: (B, L, C) -> (B, L, C); with segments (T, C) -> (T, C)."""
        x = attn.join(x, self.attn(attn.normed(self.norm1, x), segments))
        return mlp.join(x, self.mlp(mlp.normed(self.norm2, x)))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, L, C) tokens and a (B, C) condition, (B, 6 C) with ``share_mod`` -> (B, L, C)."""
        return self.branches(x, *split_modulation(self.adaLN_modulation(condition), self.channels))


class ModulatedTransformerCrossBlock(nn.Module):
    """Modulated self attention, cross attention to a context, modulated feed-forward network.

    Source: TRELLIS, arXiv:2412.01506, sec. 3.3.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        *,
        share_mod: bool = False,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
    ) -> None:
        """``share_mod``: the modulation network is the model's, this block has none."""
        super().__init__()
        self.channels = channels
        self.norm1 = LayerNorm32(channels, eps=NORM_EPS, elementwise_affine=False)
        self.norm2 = LayerNorm32(channels, eps=NORM_EPS)
        self.norm3 = LayerNorm32(channels, eps=NORM_EPS, elementwise_affine=False)
        self.self_attn = SelfAttention(channels, num_heads, qk_rms_norm)
        self.cross_attn = CrossAttention(channels, context_channels, num_heads, qk_rms_norm_cross)
        self.mlp = FeedForward(channels, mlp_ratio)
        self.adaLN_modulation = nn.Identity() if share_mod else modulation_network(channels, num_branches=2)

    def vectors(self, condition: Tensor) -> tuple[Tensor, ...]:
        """(B, C) condition -> its (B, 6 C) vectors, which ``forward`` takes too, for some times at once."""
        return (modulation_vectors(self.adaLN_modulation, condition, self.channels),)

    def project_context(self, context: Tensor | KeyValue) -> KeyValue:
        """(B, M, D) context -> its keys and values, which ``forward`` takes too; these stay as they are."""
        return context if isinstance(context, KeyValue) else self.cross_attn.project_context(context)

    def attend(
        self,
        x: Tensor,
        modulation: Modulation,
        context: KeyValue,
        segments: Segments | None = None,
        element_segments: Segments | None = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """Self attention, then cross attention: (B, L, C) -> (B, L, C); ``out`` takes the result.

        With the segments of self attention and of the batch elements, as cross attention needs them:
        (T, C) -> (T, C).
        """
        x = modulation.join(x, self.self_attn(modulation.normed(self.norm1, x), segments))
        return self.cross_attn.join(x, self.norm2, context, element_segments, out)

    def feed_forward(self, x: Tensor, modulation: Modulation, out: Tensor | None = None) -> Tensor:
        """The feed-forward network: (B, L, C) -> (B, L, C); ``out`` takes the result."""
        return modulation.join(x, self.mlp(modulation.normed(self.norm3, x)), out)

    def forward(self, x: Tensor, condition: Tensor, context: Tensor | KeyValue) -> Tensor:
        """One block; all that it computes with its parameters is computed here.

        Args:
            x: (B, L, C) tokens.
            condition: (B, C), or (B or 1, 6 C) from the model's modulation network or from ``vectors``.
            context: (B, M, D), or its keys and values from ``project_context``.

        Returns:
            (B, L, C).
        """
        attn, mlp = split_modulation(*self.vectors(condition), self.channels)
        return self.feed_forward(self.attend(x, attn, self.project_context(context)), mlp)
