"""Voxels on the surface of a triangle mesh."""

from __future__ import annotations

import numpy as np

# Below 1/2 no voxel that a triangle widely crosses is missed.
_SPACING_VOXELS = 0.4
_MAX_POINTS_AT_ONCE = 2_000_000
_MAX_PAIRS_AT_ONCE = 400_000
_ROUNDING = 1e-14  # of products of coordinates: the normal of a sliver is nothing else
_MARGIN = 1e-6  # what vertices keep from the faces of the cube, as in published data


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
    _check_finite("surface_voxels", vertices)
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


def touched_voxels(vertices: np.ndarray, faces: np.ndarray, resolution: int) -> np.ndarray:
    """Occupancy of the surface in the cube [-0.5, 0.5]^3, exactly: every voxel that a triangle touches.

    A voxel is a closed box, so that a face between two voxels occupies both. This is the structure that
    published data were made of; `surface_voxels` is faster, and leaves out voxels whose corner is cut.

    Args:
        vertices: (V, 3); those outside are moved to 1e-6 within the cube.
        faces: (F, 3) int.
        resolution: voxels per edge.

    Returns:
        (resolution, resolution, resolution) bool, indexed by the axes of the vertices.

    Raises:
        ValueError: a coordinate is not finite.

    Source: separating axes, Akenine-Moller, Fast 3D Triangle-Box Overlap Testing, 2001.
    """
    _check_finite("touched_voxels", vertices)
    grid = np.zeros((resolution,) * 3, dtype=bool)
    inside = np.clip(vertices.astype(np.float64), -0.5 + _MARGIN, 0.5 - _MARGIN)
    corners = ((inside + 0.5) * resolution)[faces]  # (F, 3, 3), a voxel is 1 wide
    first = np.maximum(np.ceil(corners.min(axis=1)).astype(int) - 1, 0)
    last = np.minimum(np.floor(corners.max(axis=1)).astype(int), resolution - 1)
    sides = last - first + 1
    counts = sides.prod(axis=1)
    grid[tuple(first[counts == 1].T)] = True  # nowhere else could these triangles be
    wide = np.flatnonzero(counts > 1)
    ends = np.cumsum(counts[wide])
    for group in np.split(wide, np.flatnonzero(np.diff(ends // _MAX_PAIRS_AT_ONCE)) + 1):
        face = np.repeat(group, counts[group])
        running = np.arange(len(face)) - np.repeat(np.cumsum(counts[group]) - counts[group], counts[group])
        _, width, depth = sides[face].T
        step = np.stack([running // (width * depth), running // depth % width, running % depth], axis=1)
        voxel = first[face] + step
        hit = _triangles_meet_boxes(corners[face] - (voxel[:, None] + 0.5))
        grid[tuple(voxel[hit].T)] = True
    return grid


def _triangles_meet_boxes(corners: np.ndarray) -> np.ndarray:
    """Whether triangles (P, 3, 3) meet the closed unit box around 0, as their own boxes are known to."""
    edges = np.roll(corners, -1, axis=1) - corners
    normal = np.cross(edges[:, 0], edges[:, 1])
    rounding = _ROUNDING * np.abs(edges[:, :2]).sum(axis=2).prod(axis=1) * np.abs(corners[:, 0]).sum(axis=1)
    distance = np.abs((normal * corners[:, 0]).sum(axis=1))
    meets = distance <= 0.5 * np.abs(normal).sum(axis=1) + rounding
    for axis in range(3):
        along, across = (axis + 1) % 3, (axis + 2) % 3
        for start in range(3):
            edge = edges[:, start]
            # an edge projects to one value, so its start and the third corner give both ends of the triangle
            ends = [
                edge[:, along] * corners[:, corner, across] - edge[:, across] * corners[:, corner, along]
                for corner in (start, (start + 2) % 3)
            ]
            reach = 0.5 * (np.abs(edge[:, along]) + np.abs(edge[:, across]))
            meets &= (np.minimum(*ends) <= reach) & (np.maximum(*ends) >= -reach)
    return meets


def _check_finite(where: str, vertices: np.ndarray) -> None:
    if not np.isfinite(vertices).all():
        bad = int((~np.isfinite(vertices)).any(axis=1).sum())
        raise ValueError(f"{where}: {bad} of {len(vertices)} vertices are not finite; mend the mesh")


def _barycentric_grid(step: int) -> np.ndarray:
    """Centres of the step^2 sub-triangles of a regular subdivision, as (step^2, 3) barycentric weights."""
    row, column = np.meshgrid(np.arange(step), np.arange(step), indexing="ij")
    upright = row + column < step
    inverted = row + column < step - 1
    first = np.concatenate([(row[upright] + 1 / 3), (row[inverted] + 2 / 3)]) / step
    second = np.concatenate([(column[upright] + 1 / 3), (column[inverted] + 2 / 3)]) / step
    return np.stack([1 - first - second, first, second], axis=1)
