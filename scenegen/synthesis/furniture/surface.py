"""Points on the surface of a triangle mesh, and how alike two voxel grids are."""

from __future__ import annotations

import numpy as np

from trellis_modules.representations.mesh.triangle_arrays import triangle_areas


def sample_surface(
    vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw points evenly by area: the draw is stratified, so that luck never misses small parts.

    `shape_bank.sample_surfaces` draws so for many objects at once on the training device, with other random
    numbers; the evaluation draws independent points, which its metrics are defined on.

    Returns:
        (count, 3) float64 points and the (count,) faces they lie on.

    Raises:
        ValueError: the mesh has no area.
    """
    areas = triangle_areas(vertices, faces)
    if not areas.sum() > 0:
        raise ValueError(f"sample_surface: expected a mesh with area, got {len(faces)} faces with none")
    edges = np.cumsum(areas) / areas.sum()
    index = np.searchsorted(edges, (np.arange(count) + rng.random(count)) / count).clip(max=len(faces) - 1)
    first, second = rng.random(count), rng.random(count)
    outside = first + second > 1
    first[outside], second[outside] = 1 - first[outside], 1 - second[outside]
    corners = vertices.astype(np.float64)[faces[index]]
    points = corners[:, 0] + first[:, None] * (corners[:, 1] - corners[:, 0])
    return points + second[:, None] * (corners[:, 2] - corners[:, 0]), index


def voxel_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two bool grids; 1 for two empty grids."""
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0
