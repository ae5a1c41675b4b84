"""The one attention function of the object-level and scene networks."""

from __future__ import annotations

import torch
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
        ValueError: shapes or dtypes do not fit, or the backend is unknown.
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
    check_dtypes("attention", q, k, v)
    return select(backend, q.device, q.dtype)(q, k, v)


def check_dtypes(where: str, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Refuse what kernels cannot mix.

    Raises:
        ValueError: not one floating point dtype, unless autocast will see to it.
    """
    if q.dtype == k.dtype == v.dtype and q.is_floating_point():
        return
    if not torch.is_autocast_enabled(q.device.type):
        raise ValueError(
            f"{where}: expected q, k and v in one floating point dtype, got {q.dtype}, {k.dtype}, {v.dtype}"
        )
