"""The grid of all cubes, with which tests compare meshes of sparse ones."""

from __future__ import annotations

import torch
from torch import Tensor

from trellis_modules.representations.mesh.cube_grid import corner_offsets, key_points, point_keys


def dense_grid(resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every cube and vertex of a grid: what sparse cubes must reduce to when all are there.

    Returns:
        vertices ((r + 1)^3, 3), coords (r^3, 3) and corners (r^3, 8), all int64, z fastest.
    """
    coords = key_points(torch.arange(resolution**3), resolution)
    vertices = key_points(torch.arange((resolution + 1) ** 3), resolution + 1)
    corners = point_keys(coords[:, None] + corner_offsets(coords.device), resolution + 1)
    return vertices, coords, corners
