"""Backend on the memory-efficient attention of xformers (CUDA)."""

from __future__ import annotations

from torch import Tensor
from xformers.ops import memory_efficient_attention


def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, H, d) queries against (B, M, H, d) keys and values."""
    return memory_efficient_attention(q, k, v)
