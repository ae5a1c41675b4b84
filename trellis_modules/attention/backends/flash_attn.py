"""Backend on the flash-attn package (CUDA, half precision)."""

from __future__ import annotations

from flash_attn import flash_attn_func
from torch import Tensor


def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, H, d) queries against (B, M, H, d) keys and values."""
    return flash_attn_func(q, k, v)
