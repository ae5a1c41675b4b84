"""Backend on the memory-efficient attention of xformers (CUDA)."""

from __future__ import annotations

from torch import Tensor
from xformers.ops import memory_efficient_attention
from xformers.ops.fmha import BlockDiagonalMask

from trellis_modules.attention.segments import Segments


def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, H, d) queries against (B, M, H, d) keys and values."""
    return memory_efficient_attention(q, k, v)


def run_segments(q: Tensor, k: Tensor, v: Tensor, segments: Segments, context_segments: Segments) -> Tensor:
    """(T, H, d) queries against (M, H, d) keys and values in groups, without padding."""
    q, k, v = segments.gather(q), context_segments.gather(k), context_segments.gather(v)
    bias = BlockDiagonalMask.from_seqlens(segments.lengths, context_segments.lengths)
    return segments.scatter(memory_efficient_attention(q[None], k[None], v[None], attn_bias=bias)[0])
