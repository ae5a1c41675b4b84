"""Reference backend: torch scaled_dot_product_attention, on every device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis_modules.attention.segments import Segments


def run(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B, L, H, d) queries against (B, M, H, d) keys and values; ``mask`` (B, M) is true at real keys."""
    if mask is not None:
        mask = mask[:, None, None].expand(-1, q.shape[2], q.shape[1], -1)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def run_segments(q: Tensor, k: Tensor, v: Tensor, segments: Segments, context_segments: Segments) -> Tensor:
    """(T, H, d) queries against (M, H, d) keys and values, in groups padded to a common length.

    Self attention of groups of very different lengths takes one padded batch for each range of lengths.
    """
    if context_segments is segments:
        output = torch.cat([_run_padded(q, k, v, bucket, bucket) for bucket in segments.buckets])
        restore = segments.bucket_restore
    else:
        output = _run_padded(q, k, v, segments, context_segments)
        restore = segments.padded_restore
    return output if restore is None else output.index_select(0, restore)


def _run_padded(q: Tensor, k: Tensor, v: Tensor, segments: Segments, context_segments: Segments) -> Tensor:
    """One padded batch, (S * max_length, H, d)."""
    mask = None if context_segments.uniform else context_segments.padding_mask
    k, v = _pad(k, context_segments), _pad(v, context_segments)
    return run(_pad(q, segments), k, v, mask).flatten(0, 1)


def _pad(x: Tensor, segments: Segments) -> Tensor:
    """(T, H, d) -> (S, max_length, H, d); what follows the rows of a group must not be read."""
    if not segments.uniform or segments.rows is not None:
        x = x.index_select(0, segments.padded_rows)
    return x.unflatten(0, (len(segments.lengths), segments.max_length))
