"""Voxels on the surface of a triangle mesh."""

from __future__ import annotations

import numpy as np

# Below 1/2 no voxel that a triangle widely crosses is missed.
_SPACING_VOXELS = 0.4
_MAX_POINTS_AT_ONCE = 2_000_000


def surface_voxels(
    vertices: np.ndarray, faces: np.ndarray, resolution: int, spacing: float = _SPACING_VOXELS
) -> np.ndarray:
    """Occupancy of the surface in the cube [-0.5, 0.5]^3, by regular points on every triangle.

    Args:
        vertices: (V, 3) in [-0.5, 0.5]; points outside count for the border voxel.
        faces: (F, 3) int.
        resolution: voxels per edge.
        spacing: of the points, in voxels; below 1 the shell has no hole, and only corners are cut.

    Returns:
        (resolution, resolution, resolution) bool, indexed by the axes of the vertices.

    Raises:
        ValueError: a coordinate is not finite.
    """
    if not np.isfinite(vertices).all():
        bad = int((~np.isfinite(vertices)).any(axis=1).sum())
        raise ValueError(f"surface_voxels: {bad} of {len(vertices)} vertices are not finite; mend the mesh")
    grid = np.zeros(resolution**3, dtype=bool)
    corners = vertices.astype(np.float64)[faces]
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    steps = np.maximum(np.ceil(edges * resolution / spacing).astype(int), 1)
    steps = 2 ** np.ceil(np.log2(steps)).astype(int)  # few distinct step counts, so few batches
    for step in np.unique(steps):
        weights = _barycentric_grid(step)
        chosen = corners[steps == step]
        batch = max(1, _MAX_POINTS_AT_ONCE // len(weights))
        for start in range(0, len(chosen), batch):
            points = weights @ chosen[start : start + batch]  # (F, S, 3)
            cells = np.clip(((points + 0.5) * resolution).astype(int), 0, resolution - 1)
            x, y, z = np.moveaxis(cells, -1, 0)
            grid[(x * resolution + y) * resolution + z] = True
    return grid.reshape((resolution,) * 3)


def _barycentric_grid(step: int) -> np.ndarray:
    """Centres of the step^2 sub-triangles of a regular subdivision, as (step^2, 3) barycentric weights."""
    row, column = np.meshgrid(np.arange(step), np.arange(step), indexing="ij")
    upright = row + column < step
    inverted = row + column < step - 1
    first = np.concatenate([(row[upright] + 1 / 3), (row[inverted] + 2 / 3)]) / step
    second = np.concatenate([(column[upright] + 1 / 3), (column[inverted] + 2 / 3)]) / step
    return np.stack([1 - first - second, first, second], axis=1)
