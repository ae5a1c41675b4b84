"""From meshes and poses to the nodes of a scene file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scenegen.geometry import (
    SCENE_EXTENT,
    apply_transform,
    check_pose,
    identity_pose,
    pose_to_transform,
    sanitize_pose,
)

ROW_GAP = 0.25
"""Space between objects in a row, in units of an object's longest side."""


def row_poses(vertices: Sequence[np.ndarray], query: int = 0) -> Tensor:
    """Poses of objects that no network has placed: side by side along +x, on one floor, each of size 1.

    Args:
        vertices: of each object, (V, 3) in its y-up frame; empty for an object without geometry.
        query: the object in whose frame the poses are; its row is the identity.

    Returns:
        (N, 8) float32.
    """
    poses = identity_pose(len(vertices))
    edge, floor = 0.0, [0.0] * len(vertices)
    for row, points in enumerate(vertices):
        low, high = (points.min(axis=0), points.max(axis=0)) if len(points) else (np.zeros(3), np.zeros(3))
        poses[row, 0] = edge - float(low[0])
        floor[row] = float(low[1])
        edge += float(high[0] - low[0]) + ROW_GAP
    poses[:, 0] -= poses[query, 0].clone()
    poses[:, 1] = floor[query] - torch.tensor(floor)
    return poses


def scene_transforms(vertices: Sequence[np.ndarray], poses: Tensor) -> np.ndarray:
    """Place every object and fit the scene into the box: the matrices of a scene file's nodes.

    Args:
        vertices: of each object, (V, 3) in its y-up frame; empty for an object without geometry, which then
            does not count for the size of the scene.
        poses: (N, 8) in the query frame, the scale clamped and quaternions normalised here.

    Returns:
        (N, 4, 4) float64, object y-up frame -> scene, acting on column vectors.

    Raises:
        ValueError: numbers of meshes and poses differ, a pose is not finite, or nothing has an extent.
    """
    check_pose(poses, "scene_transforms")
    if len(vertices) != len(poses):
        raise ValueError(
            f"scene_transforms: expected one pose per mesh, got {len(poses)} poses for {len(vertices)} meshes"
        )
    if not bool(torch.isfinite(poses).all()):
        broken = torch.nonzero(~torch.isfinite(poses).all(dim=1)).flatten().tolist()
        raise ValueError(
            f"scene_transforms: poses of objects {broken} are not finite; check weights and precision"
        )
    transforms = pose_to_transform(sanitize_pose(poses.detach().cpu().double())).numpy()
    low, high = _bounds(vertices, transforms)
    return _fit(low, high) @ transforms


def _bounds(vertices: Sequence[np.ndarray], transforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    placed = [
        apply_transform(transform, np.asarray(points, dtype=np.float64))
        for transform, points in zip(transforms, vertices, strict=True)
        if len(points)
    ]
    if not placed:
        raise ValueError(
            f"scene_transforms: expected geometry in at least one of {len(vertices)} objects, got none"
        )
    points = np.concatenate(placed)
    return points.min(axis=0), points.max(axis=0)


def _fit(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The scaling and shift that bring a box to the origin with longest side `SCENE_EXTENT`."""
    extent = float((high - low).max())
    if extent <= 0:
        raise ValueError("scene_transforms: expected a scene with an extent, all vertices are one point")
    factor, centre = SCENE_EXTENT / extent, (low + high) / 2
    fit = np.diag([factor, factor, factor, 1.0])
    fit[:3, 3] = -factor * centre
    return fit
