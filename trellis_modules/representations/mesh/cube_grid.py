"""Cubes of a regular grid, dense or sparse, and the grid vertices that they share.

Cubes and vertices are integer points; a grid of ``resolution`` cubes an edge has ``resolution + 1`` vertices
an edge.  Keys number them with z fastest and are 64 bit, so that no product overflows at a usable resolution.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trellis_modules.ragged import count

NUM_CORNERS = 8
CORNER_OFFSETS = tuple((k & 1, (k >> 1) & 1, (k >> 2) & 1) for k in range(NUM_CORNERS))  # x fastest


def corner_offsets(device: torch.device) -> Tensor:
    """(8, 3) int64 steps from a cube to its corners, x fastest."""
    return torch.tensor(CORNER_OFFSETS, device=device)


def point_keys(points: Tensor, points_per_edge: int) -> Tensor:
    """Number integer points (..., 3) of a cubic lattice: (x * n + y) * n + z as int64 (...)."""
    x, y, z = points.long().unbind(-1)
    return (x * points_per_edge + y) * points_per_edge + z


def key_points(keys: Tensor, points_per_edge: int) -> Tensor:
    """The points (..., 3) int64 of lattice keys; inverse of :func:`point_keys`."""
    n = points_per_edge
    return torch.stack([keys // (n * n), keys // n % n, keys % n], dim=-1)


def find_keys(sorted_keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Look keys up in an ascending list.

    Args:
        sorted_keys: (K,) int64, ascending.
        wanted: (...) int64.

    Returns:
        position (...) int64, a valid index wherever ``found``; found (...) bool.
    """
    if not len(sorted_keys):
        return torch.zeros_like(wanted), torch.zeros_like(wanted, dtype=torch.bool)
    position = torch.searchsorted(sorted_keys, wanted).clamp_max(len(sorted_keys) - 1)
    return position, sorted_keys[position] == wanted


def shared_corners(coords: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """The distinct grid vertices of cubes.

    Args:
        coords: (C, 3) integer cubes in [0, resolution).
        resolution: cubes per edge.

    Returns:
        vertices (V, 3) int64, sorted by x, y, z; corners (C, 8) int64, rows of ``vertices``.
    """
    lattice = coords.long()[:, None] + corner_offsets(coords.device)  # (C, 8, 3)
    keys, corners = point_keys(lattice, resolution + 1).unique(return_inverse=True)
    return key_points(keys, resolution + 1), corners


def mean_over_cubes(values: Tensor, corners: Tensor, num_vertices: int) -> Tensor:
    """Average corner values over the cubes that share a vertex.

    Args:
        values: (C, 8, D) float.
        corners: (C, 8) vertex rows.
        num_vertices: V; every vertex must have at least one cube.

    Returns:
        (V, D).
    """
    rows, channels = corners.flatten(), values.shape[-1]
    total = values.new_zeros(num_vertices, channels).index_add(0, rows, values.reshape(-1, channels))
    return total / count(rows, num_vertices)[:, None].to(values.dtype)


def deformed_positions(vertices: Tensor, deform: Tensor, resolution: int) -> Tensor:
    """Object-space positions of grid vertices moved by less than half a cube.

    Args:
        vertices: (V, 3) integer grid vertices.
        deform: (V, 3) unbounded; its tanh is the move in half cubes.
        resolution: cubes per edge.

    Returns:
        (V, 3) about [-0.5, 0.5], z up, unit = grid edge.
    """
    reach = (1 - 1e-8) / (2 * resolution)
    return vertices.to(deform.dtype) / resolution - 0.5 + reach * torch.tanh(deform)
