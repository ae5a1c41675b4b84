"""Attention over groups of rows of different sizes, in one call."""

from __future__ import annotations

from torch import Tensor

from trellis_modules.attention.backends import select
from trellis_modules.attention.functional import check_dtypes
from trellis_modules.attention.segments import Segments


def variable_length_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    segments: Segments,
    context_segments: Segments | None = None,
    *,
    backend: str = "auto",
) -> Tensor:
    """Softmax attention inside each group, with scale 1/sqrt(d), no dropout.

    Args:
        q: (T, H, d) queries.
        k: (M, H, d) keys.
        v: (M, H, d) values.
        segments: groups of the queries; empty groups are allowed.
        context_segments: groups of keys and values, as many; default: those of the queries.
        backend: "auto", or the name of a kernel (``attention.backends.BACKENDS``).

    Returns:
        (T, H, d).

    Raises:
        ValueError: shapes, dtypes or groups do not fit, or queries have no keys to attend to.
        BackendUnavailable: the named backend cannot run here.
    """
    if context_segments is None:
        context_segments = segments
    if q.ndim != 3 or k.shape != v.shape or k.shape[1:] != q.shape[1:]:
        raise ValueError(
            f"variable_length_attention: expected q (T, H, d) and k, v (M, H, d), got q {tuple(q.shape)}, "
            f"k {tuple(k.shape)}, v {tuple(v.shape)}"
        )
    check_dtypes("variable_length_attention", q, k, v)
    for name, rows, groups in (("queries", q, segments), ("keys", k, context_segments)):
        if groups.num_rows != len(rows):
            raise ValueError(
                f"variable_length_attention: the groups hold {groups.num_rows} {name}, got {len(rows)}; "
                "use the segments of these voxels"
            )
    _check_groups(segments, context_segments)
    if not len(q):
        return q
    run = select(backend, q.device, q.dtype, "run_segments")
    return run(q, k, v, segments, context_segments)


def _check_groups(segments: Segments, context_segments: Segments) -> None:
    if context_segments is segments:
        return
    if len(segments.lengths) != len(context_segments.lengths):
        raise ValueError(
            f"variable_length_attention: {len(segments.lengths)} groups of queries but "
            f"{len(context_segments.lengths)} of keys; each group of queries needs its context"
        )
    for index, (queries, keys) in enumerate(zip(segments.lengths, context_segments.lengths)):
        if queries and not keys:
            raise ValueError(
                f"variable_length_attention: the {queries} queries of group {index} have no keys"
            )
