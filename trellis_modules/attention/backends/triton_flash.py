"""Backend in Triton for Hopper and later GPUs (CUDA, half precision, heads of 64 channels).

Anything else is left to SDPA.

Source: FlashAttention-2, arXiv:2307.08691.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from trellis_modules.attention.backends import torch_sdpa
from trellis_modules.attention.backends.torch_varlen import run_segments

__all__ = ["run", "run_segments"]

_HOPPER = (9, 0)
_WIDTH = 64  # channels of a head
_ROWS, _KEYS = 128, 64  # queries of a program, keys of a block
_WARPS, _STAGES = 4, 3
_LOG2_E = 1.4426950408889634


@triton.jit
def _add_block(q, k_rows, v_rows, batch, first, head, sums, top, total, factor, keys,
               PART: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """Sums, largest score and total with a block of keys; ``PART``: it may reach over the last key."""
    k = k_rows.load([batch, first, head, 0]).reshape(KEYS, WIDTH)
    scores = tl.dot(q, k.T)
    if PART:
        scores = tl.where((first + tl.arange(0, KEYS) < keys)[None, :], scores, float("-inf"))
    highest = tl.maximum(top, tl.max(scores, 1) * factor)
    powers = tl.exp2(scores * factor - highest[:, None])
    shrink = tl.exp2(top - highest)
    v = v_rows.load([batch, first, head, 0]).reshape(KEYS, WIDTH)
    sums = tl.dot(powers.to(v.dtype), v, sums * shrink[:, None])
    return sums, highest, total * shrink + tl.sum(powers, 1)


@triton.jit
def _attention(q_rows, k_rows, v_rows, outputs, heads, keys, factor,
               ROWS: tl.constexpr, KEYS: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    first = tl.program_id(0) * ROWS
    batch, head = tl.program_id(1) // heads, tl.program_id(1) % heads
    q = q_rows.load([batch, first, head, 0]).reshape(ROWS, WIDTH)
    sums = tl.zeros((ROWS, WIDTH), tl.float32)
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    whole = (keys // KEYS) * KEYS
    for key in tl.range(0, whole, KEYS):
        sums, top, total = _add_block(
            q, k_rows, v_rows, batch, key, head, sums, top, total, factor, keys, False, KEYS, WIDTH
        )
    if whole < keys:
        sums, top, total = _add_block(
            q, k_rows, v_rows, batch, whole, head, sums, top, total, factor, keys, True, KEYS, WIDTH
        )
    result = (sums / total[:, None]).to(q.dtype)
    outputs.store([batch, first, head, 0], result.reshape(1, ROWS, 1, WIDTH))


def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, H, d) queries against (B, M, H, d) keys and values."""
    if not _fits(q, k, v):
        return torch_sdpa.run(q, k, v)
    batch, queries, heads, width = q.shape
    output = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    blocks = [_blocks(x, rows) for x, rows in ((q, _ROWS), (k, _KEYS), (v, _KEYS), (output, _ROWS))]
    with torch.cuda.device_of(q):
        _attention[(triton.cdiv(queries, _ROWS), batch * heads)](
            *blocks, heads, k.shape[1], width**-0.5 * _LOG2_E,
            ROWS=_ROWS, KEYS=_KEYS, WIDTH=width, num_warps=_WARPS, num_stages=_STAGES,
        )  # fmt: skip
    return output


def _fits(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel takes these tensors: it has no gradients."""
    needs_gradient = torch.is_grad_enabled() and any(part.requires_grad for part in (q, k, v))
    return (
        q.shape[-1] == _WIDTH
        and q.numel() > 0
        and k.shape[1] > 0
        and not needs_gradient
        and torch.cuda.get_device_capability(q.device) >= _HOPPER
        and all(_can_be_copied(part) for part in (q, k, v))
    )


def _can_be_copied(x: Tensor) -> bool:
    """Whether the copy engine takes the addresses and steps of a tensor."""
    return (
        x.stride(-1) == 1
        and x.data_ptr() % 16 == 0
        and all(step * x.element_size() % 16 == 0 for step in x.stride()[:-1])
    )


def _blocks(x: Tensor, rows: int) -> TensorDescriptor:
    """How (B, L, H, d) is read or written, ``rows`` tokens of one head at a time."""
    return TensorDescriptor(x, list(x.shape), list(x.stride()), [1, rows, 1, x.shape[-1]])
