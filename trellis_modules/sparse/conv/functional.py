"""The one convolution function of the sparse networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trellis_modules.sparse.conv.backends import select
from trellis_modules.sparse.tensor import MAX_RESOLUTION, SparseTensor


def submanifold_conv3d(
    x: SparseTensor,
    weight: Tensor,
    bias: Tensor | None = None,
    dilation: int = 1,
    *,
    backend: str = "auto",
) -> SparseTensor:
    """Cross-correlation evaluated at the voxels of the input only.

    ``out[p] = bias + sum over offsets o of weight[:, o] @ in[p + dilation * (o - k // 2)]``, over the offsets
    that hit a voxel of the same batch element.

    A 1x1x1 kernel follows the library that the released weights were trained with: it takes the memory of
    the (C_out, 1, 1, 1, C_in) buffer as a (C_in, C_out) matrix, without transposing.

    Args:
        x: (B, C_in) features.
        weight: (C_out, k, k, k, C_in), k odd; kernel axes in the order x, y, z.
        bias: (C_out,).
        dilation: voxels between neighbouring kernel offsets, in [1, 1024).
        backend: "auto", or the name of a kernel (``conv.backends.BACKENDS``).

    Returns:
        (B, C_out), the same voxels.

    Raises:
        ValueError: shapes or dtypes do not fit, two voxels share a place, or the backend is unknown.
        BackendUnavailable: the named backend cannot run here.
    """
    _check(x, weight, dilation)
    if weight.shape[1] == 1:
        feats = x.feats @ weight.reshape(weight.shape[4], weight.shape[0])
        return x.replace(feats if bias is None else feats + bias)
    run = select(backend, x.device, x.dtype)
    return x.replace(run(x, weight, bias, dilation))


def conv3d_of_copies(
    x: SparseTensor,
    step: Callable[[SparseTensor], SparseTensor],
    weight: Tensor,
    bias: Tensor | None = None,
    dilation: int = 1,
    *,
    backend: str = "auto",
) -> SparseTensor:
    """``submanifold_conv3d(step(x), ...)`` for a step to finer voxels that copy those of x.

    Where no gradients are asked for, what is copied may be multiplied before, once for all copies: the sums
    are the same, in another order.

    Args:
        x: (B, C_in) features.
        step: a resolution step such as ``SparseSubdivide`` or ``SparseUpsample``.
        weight, bias, dilation, backend: see ``submanifold_conv3d``.

    Returns:
        (B, C_out) at the voxels of the step.

    Raises:
        ValueError, BackendUnavailable: see ``submanifold_conv3d``.
    """
    if torch.is_grad_enabled() or weight.shape[1] == 1:
        return submanifold_conv3d(step(x), weight, bias, dilation, backend=backend)
    _check(x, weight, dilation)
    copied = step(x.replace(torch.arange(len(x.feats), device=x.device)))
    run_copies = select(backend, x.device, x.dtype, "run_copies")
    return copied.replace(run_copies(x.feats, copied, weight, bias, dilation))


def _check(x: SparseTensor, weight: Tensor, dilation: int) -> None:
    if (
        weight.ndim != 5
        or weight.shape[1] % 2 == 0
        or len(set(weight.shape[1:4])) != 1
        or x.feats.shape[1:] != weight.shape[4:]
    ):
        raise ValueError(
            "submanifold_conv3d: expected weight (C_out, k, k, k, C_in) with odd k and features (T, C_in), "
            f"got weight {tuple(weight.shape)} and features {tuple(x.feats.shape)}"
        )
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(
            f"submanifold_conv3d: expected features in the dtype of the weight, {weight.dtype}, "
            f"got {x.dtype}; convert one of them"
        )
    if not 1 <= dilation < MAX_RESOLUTION:
        raise ValueError(f"submanifold_conv3d: dilation must be in [1, {MAX_RESOLUTION}), got {dilation}")
