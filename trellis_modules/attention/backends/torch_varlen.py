"""Backend on the variable-length flash attention of torch 2.10 and later (CUDA, half precision).

Batches of equal lengths are left to SDPA, which has kernels for every GPU.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from trellis_modules.attention.backends.torch_sdpa import run
from trellis_modules.attention.segments import Segments

__all__ = ["run", "run_segments"]

#: The kernel takes head widths that are a multiple of this.
_WIDTH_STEP = 8


def run_segments(q: Tensor, k: Tensor, v: Tensor, segments: Segments, context_segments: Segments) -> Tensor:
    """(T, H, d) queries against (M, H, d) keys and values in groups, without padding."""
    q, k, v = segments.gather(q), context_segments.gather(k), context_segments.gather(v)
    if segments.uniform and context_segments.uniform:
        output = _run_batch(q, k, v, len(segments.lengths))
    else:
        output = _run_groups(q, k, v, segments, context_segments)
    return segments.scatter(output)


def _run_batch(q: Tensor, k: Tensor, v: Tensor, groups: int) -> Tensor:
    return run(*(x.unflatten(0, (groups, -1)) for x in (q, k, v))).flatten(0, 1)


def _run_groups(q: Tensor, k: Tensor, v: Tensor, segments: Segments, context_segments: Segments) -> Tensor:
    width = q.shape[-1]
    if missing := -width % _WIDTH_STEP:
        # Zeros change no product; the kernel's scale is that of the padded width.
        q = q * math.sqrt((width + missing) / width)
        q, k, v = (F.pad(x, (0, missing)) for x in (q, k, v))
    output = varlen_attn(
        q,
        k,
        v,
        segments.offsets,
        context_segments.offsets,
        segments.max_length,
        context_segments.max_length,
    )
    return output[..., :width]
