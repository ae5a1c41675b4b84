"""Whole grids of cubes, for tests of what works on some of their cubes."""

from __future__ import annotations

import torch
from torch import Tensor

from trellis_modules.representations.mesh.cube_grid import shared_corners


def dense_grid(resolution: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every vertex ((r + 1)^3, 3), every cube (r^3, 3) and its corners (r^3, 8), all int64, z fastest."""
    coords = torch.cartesian_prod(*[torch.arange(resolution)] * 3)
    vertices, corners = shared_corners(coords, resolution)
    return vertices, coords, corners
