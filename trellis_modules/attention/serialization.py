"""Space-filling curves that put voxels in a row so that neighbours in the row are neighbours in space."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

#: Bits of each coordinate in a code.
CODE_BITS = 10


class SerializeMode(Enum):
    """A curve, and whether its first two axes change places."""

    Z_ORDER = "z_order"
    Z_ORDER_TRANSPOSED = "z_order_transposed"
    HILBERT = "hilbert"
    HILBERT_TRANSPOSED = "hilbert_transposed"


def serialize(xyz: Tensor, mode: SerializeMode) -> Tensor:
    """The place of every voxel along a curve.

    Args:
        xyz: (T, 3) integers in [0, 1024).
        mode: the curve.

    Returns:
        (T,) int64 codes below 2^30, different for different voxels.

    Raises:
        ValueError: a coordinate is out of range, or no integer.
    """
    if xyz.is_floating_point():
        raise ValueError(f"serialize: coordinates must be integers, got {xyz.dtype}")
    if len(xyz) and not 0 <= int(xyz.min()) <= int(xyz.max()) < 2**CODE_BITS:
        raise ValueError(
            f"serialize: coordinates must be in [0, {2**CODE_BITS}), got {int(xyz.min())} to {int(xyz.max())}"
        )
    axes = list(xyz.long().unbind(1))
    if mode in (SerializeMode.Z_ORDER_TRANSPOSED, SerializeMode.HILBERT_TRANSPOSED):
        axes[0], axes[1] = axes[1], axes[0]
    if mode in (SerializeMode.HILBERT, SerializeMode.HILBERT_TRANSPOSED):
        axes = _hilbert_transpose(axes)
    return _interleave(axes)


def _interleave(axes: list[Tensor]) -> Tensor:
    """The bits of the axes in turn, the first axis most significant."""
    code = torch.zeros_like(axes[0])
    for bit in range(CODE_BITS - 1, -1, -1):
        for axis in axes:
            code = code << 1 | axis >> bit & 1
    return code


def _hilbert_transpose(axes: list[Tensor]) -> list[Tensor]:
    """Coordinates -> Hilbert index with its bits distributed over the axes.

    Source: Skilling, Programming the Hilbert curve, AIP Conf. Proc. 707, 2004 (AxestoTranspose).
    """
    axes = list(axes)
    for bit in range(CODE_BITS - 1, 0, -1):
        high, low = 1 << bit, (1 << bit) - 1
        for i in range(len(axes)):
            is_set = (axes[i] & high) != 0
            swapped = (axes[0] ^ axes[i]) & low  # exchange the low bits of both axes, or invert the first's
            axes[0] = axes[0] ^ torch.where(is_set, low, swapped)
            if i:
                axes[i] = axes[i] ^ torch.where(is_set, 0, swapped)
    for i in range(1, len(axes)):
        axes[i] = axes[i] ^ axes[i - 1]
    flips = torch.zeros_like(axes[0])
    for bit in range(CODE_BITS - 1, 0, -1):
        flips = torch.where((axes[-1] >> bit & 1) != 0, flips ^ ((1 << bit) - 1), flips)
    return [axis ^ flips for axis in axes]
