"""Backend on the flash-attn package (CUDA, half precision)."""

from __future__ import annotations

from flash_attn import flash_attn_func, flash_attn_varlen_func
from torch import Tensor

from trellis_modules.attention.segments import Segments


def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, H, d) queries against (B, M, H, d) keys and values."""
    return flash_attn_func(q, k, v)


def run_segments(q: Tensor, k: Tensor, v: Tensor, segments: Segments, context_segments: Segments) -> Tensor:
    """(T, H, d) queries against (M, H, d) keys and values in groups, without padding."""
    output = flash_attn_varlen_func(
        segments.gather(q),
        context_segments.gather(k),
        context_segments.gather(v),
        segments.offsets,
        context_segments.offsets,
        segments.max_length,
        context_segments.max_length,
    )
    return segments.scatter(output)
