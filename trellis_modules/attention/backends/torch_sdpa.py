"""Reference backend: torch scaled_dot_product_attention, on every device."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from trellis_modules.attention.segments import Segments


def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, L, H, d) queries against (B, M, H, d) keys and values; ``mask`` (B, M) is true at real keys."""
    if mask is not None:
        mask = mask[:, None, None].expand(-1, q.shape[2], q.shape[1], -1)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def run_segments(
    q: Tensor, k: Tensor, v: Tensor, segments: Segments, context_segments: Segments
) -> Tensor:
    """(N, H, d) queries in group order against (M, H, d) keys and values, as one padded batch."""
    mask = None if context_segments.uniform else context_segments.padding_mask
    k, v = _pad(k, context_segments), _pad(v, context_segments)
    output = run(_pad(q, segments), k, v, mask).flatten(0, 1)
    return output if segments.uniform else output.index_select(0, segments.positions)


def _pad(x: Tensor, segments: Segments) -> Tensor:
    """(N, H, d) in group order -> (S, max_length, H, d), zeros after the rows of a group."""
    groups = (len(segments.lengths), segments.max_length)
    if segments.uniform:
        return x.unflatten(0, groups)
    padded = x.new_zeros(groups[0] * groups[1], *x.shape[1:])
    return padded.index_copy(0, segments.positions, x).unflatten(0, groups)
