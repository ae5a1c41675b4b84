"""Pinhole cameras: OpenCV extrinsics (world to camera; x right, y down, z forward), normalised intrinsics."""

from __future__ import annotations

import torch
from torch import Tensor


def look_at(eye: Tensor, target: Tensor, up: Tensor) -> Tensor:
    """World-to-camera matrices of cameras at ``eye`` that look at ``target``.

    Args:
        eye, target, up: (..., 3) in world units; ``up`` need not be orthogonal to the viewing direction.

    Returns:
        (..., 4, 4) extrinsics, OpenCV axes.
    """
    forward = torch.nn.functional.normalize(target - eye, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up.expand_as(forward)), dim=-1)
    rotation = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-2)
    extrinsics = torch.zeros(*eye.shape[:-1], 4, 4, device=eye.device, dtype=eye.dtype)
    extrinsics[..., :3, :3] = rotation
    extrinsics[..., :3, 3] = -(rotation @ eye[..., None])[..., 0]
    extrinsics[..., 3, 3] = 1
    return extrinsics


def focal_length(fov: Tensor) -> Tensor:
    """Focal length in units of the picture's width for a field of view in radians: 0.5 / tan(fov / 2)."""
    return 0.5 / torch.tan(0.5 * fov)


def project(points: Tensor, extrinsics: Tensor, focal: Tensor, size: int) -> Tensor:
    """World points to (x, y, depth) on square pictures of ``size`` pixels.

    Args:
        points: (..., P, 3) world.
        extrinsics: (..., 4, 4) world to camera, OpenCV axes.
        focal: (...) focal length in units of the picture's width; the principal point is the centre.
        size: pixels per edge.

    Returns:
        (..., P, 3): pixel x (right), pixel y (down), camera depth in world units.
    """
    camera = points @ extrinsics[..., :3, :3].mT + extrinsics[..., None, :3, 3]
    depth = camera[..., 2:]
    # behind the camera the division is meaningless; the sign of the depth is kept for the caller to test
    safe = torch.where(depth.abs() < 1e-6, torch.full_like(depth, 1e-6), depth)
    xy = camera[..., :2] / safe * (focal[..., None, None] * size) + 0.5 * size
    return torch.cat([xy, depth], dim=-1)
