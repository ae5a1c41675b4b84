"""Projection matrices of rasterisers from normalised intrinsics."""

from __future__ import annotations

import torch
from torch import Tensor


def intrinsics_to_projection(intrinsics: Tensor, near: float, far: float) -> Tensor:
    """Clip-space matrix of a pinhole camera with OpenCV axes.

    Args:
        intrinsics: (..., 3, 3) in units of the picture's size (fx = 0.5 / tan(fov / 2), centre 0.5).
        near, far: depths that map to clip depth 0 and 1, 0 < near < far.

    Returns:
        (..., 4, 4); acts on column vectors of camera space; depth in [0, 1].

    Raises:
        ValueError: the depths are out of order.
    """
    if not 0 < near < far:
        raise ValueError(f"intrinsics_to_projection: expected 0 < near < far, got near {near}, far {far}")
    projection = torch.zeros(*intrinsics.shape[:-2], 4, 4, device=intrinsics.device, dtype=intrinsics.dtype)
    projection[..., 0, 0] = 2 * intrinsics[..., 0, 0]
    projection[..., 1, 1] = 2 * intrinsics[..., 1, 1]
    projection[..., 0, 2] = 2 * intrinsics[..., 0, 2] - 1
    projection[..., 1, 2] = -2 * intrinsics[..., 1, 2] + 1
    projection[..., 2, 2] = far / (far - near)
    projection[..., 2, 3] = near * far / (near - far)
    projection[..., 3, 2] = 1
    return projection
