"""Reference backend: torch scaled_dot_product_attention, on every device."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """(B, L, H, d) queries against (B, M, H, d) keys and values."""
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(
        1, 2
    )
