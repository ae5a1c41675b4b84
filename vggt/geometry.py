"""Depth maps and cameras to points."""

from __future__ import annotations

import torch
from torch import Tensor

MIN_DEPTH = 1e-8


def invert_se3(transforms: Tensor) -> Tensor:
    """Invert rigid transforms in closed form.

    Args:
        transforms: (..., 3, 4) or (..., 4, 4) [R|t].

    Returns:
        (..., 4, 4) [R^T | -R^T t].

    Raises:
        ValueError: another shape.
    """
    if transforms.ndim < 2 or transforms.shape[-2:] not in ((3, 4), (4, 4)):
        raise ValueError(
            f"invert_se3: transforms must be (..., 3, 4) or (..., 4, 4), got {tuple(transforms.shape)}"
        )
    rotation = transforms[..., :3, :3].mT
    translation = -rotation @ transforms[..., :3, 3:]
    last_row = torch.zeros_like(transforms[..., :1, :])
    last_row = torch.cat((last_row[..., :3], last_row[..., 3:] + 1), dim=-1)
    return torch.cat((torch.cat((rotation, translation), dim=-1), last_row), dim=-2)


def depth_to_camera_points(depth: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Unproject depth maps to camera space.

    Args:
        depth: (..., H, W), along the optical axis.
        intrinsics: (..., 3, 3) in pixels; pixel (0, 0) has its centre at coordinates (0, 0).

    Returns:
        Points (..., H, W, 3), OpenCV axes, unit of the depth; and a bool mask (..., H, W) of positive depth.
    """
    height, width = depth.shape[-2:]
    column = torch.arange(width, device=depth.device, dtype=depth.dtype)
    row = torch.arange(height, device=depth.device, dtype=depth.dtype)[:, None]
    matrix = intrinsics[..., None, None]
    x = (column - matrix[..., 0, 2, :, :]) * depth / matrix[..., 0, 0, :, :]
    y = (row - matrix[..., 1, 2, :, :]) * depth / matrix[..., 1, 1, :, :]
    return torch.stack((x, y, depth), dim=-1), depth > MIN_DEPTH


def depth_to_world_points(depth: Tensor, extrinsics: Tensor, intrinsics: Tensor) -> Tensor:
    """Unproject depth maps to world space.

    Args:
        depth: (..., H, W), along the optical axis.
        extrinsics: (..., 3, 4) world to camera, OpenCV axes.
        intrinsics: (..., 3, 3) in pixels.

    Returns:
        (..., H, W, 3) in the world frame.
    """
    points, _ = depth_to_camera_points(depth, intrinsics)
    to_world = invert_se3(extrinsics)[..., None, :, :]  # (..., 1, 4, 4), broadcast over rows
    return points @ to_world[..., :3, :3].mT + to_world[..., None, :3, 3]
