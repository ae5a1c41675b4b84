"""The one attention function of the object-level and scene networks."""

from __future__ import annotations

from torch import Tensor

from trellis_modules.attention.backends import select


def attention(q: Tensor, k: Tensor, v: Tensor, *, backend: str = "auto") -> Tensor:
    """Softmax attention with scale 1/sqrt(d), no mask, no dropout.

    Args:
        q: (B, L, H, d) queries.
        k: (B, M, H, d) keys.
        v: (B, M, H, d) values, dtype and device of q.
        backend: "auto", or the name of a kernel (``attention.backends.BACKENDS``).

    Returns:
        (B, L, H, d).

    Raises:
        ValueError: the shapes do not fit, or the backend is unknown.
        BackendUnavailable: the named backend cannot run here.
    """
    if (
        q.ndim != 4
        or k.shape != v.shape
        or k.shape[::2] != (q.shape[0], q.shape[2])
        or k.shape[3] != q.shape[3]
    ):
        raise ValueError(
            f"attention: expected q (B, L, H, d) and k, v (B, M, H, d), got q {tuple(q.shape)}, "
            f"k {tuple(k.shape)}, v {tuple(v.shape)}"
        )
    return select(backend, q.device, q.dtype)(q, k, v)
