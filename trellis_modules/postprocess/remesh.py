"""A solid from any triangles, through a grid: for meshes that nothing else closes."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import cKDTree

from trellis_modules.postprocess.solid import report_solid, tidy_solid
from trellis_modules.representations.mesh.cube_grid import shared_corners
from trellis_modules.representations.mesh.enclosed import Closing, enclosed_points, near
from trellis_modules.representations.mesh.flexicubes import flexicubes
from trellis_modules.representations.mesh.triangle_arrays import triangle_areas, unique_rows, weld

_SHELL_RADIUS = 0.9  # of a cell: half the diagonal of a cube, below which a shell leaks, and a little more
_SKIN = 0.1  # of a cell: what remains of that when the surface is drawn back, so that sheets keep two sides
_SPACING = 0.5  # between samples of the surface, in cells
_MARGIN = 3  # cells around the mesh


def remesh_solid(
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    resolution: int = 128,
    num_faces: int | None = None,
    closing: Closing | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return a closed mesh as it is, and any other one as the solid that its shell encloses.

    The surface at a small distance around the triangles is drawn anew, without what it encloses, and drawn
    back onto them; sheets get a thickness of a fifth of a cell.

    Args:
        vertices: (V, 3) float.
        faces: (F, 3) int, of any orientation.
        resolution: cells along the longest side of the mesh, at least 2.
        num_faces: about how many to keep; None keeps all that the grid gives.
        closing: openings that are closed, in shares of the longest side; None is `Closing()`.

    Returns:
        Vertices (W, 3) float32 and faces (G, 3) int64, watertight; empty for a mesh without area.

    Raises:
        ValueError: ``resolution`` is out of range.
    """
    if resolution < 2:
        raise ValueError(f"remesh_solid: expected a resolution of at least 2, got {resolution}")
    report = report_solid(vertices, faces)
    if report.watertight and report.volume > 0:
        return vertices.astype(np.float32), faces.astype(np.int64)
    faces = faces[triangle_areas(vertices, faces) > 0]
    if not len(faces):
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int64)
    low = vertices[faces].min(axis=(0, 1))
    cell = float((vertices[faces].max(axis=(0, 1)) - low).max()) / resolution
    samples = _surface_samples((vertices[faces] - low) / cell + _MARGIN)
    points, corners = _solid_around(samples, resolution, closing)
    points, corners, _ = weld(_drawn_back(points, samples), corners)
    points, corners = tidy_solid(points, corners, num_faces)
    return ((points - _MARGIN) * cell + low).astype(np.float32), corners


def _surface_samples(triangles: np.ndarray) -> np.ndarray:
    """Points (S, 3) on triangles (F, 3, 3) in cells, no farther apart than the spacing."""
    edges = triangles - np.roll(triangles, -1, axis=1)
    steps = np.ceil(np.linalg.norm(edges, axis=2).max(axis=1) / _SPACING).astype(int).clip(min=1)
    samples = []
    for count in np.unique(steps):
        first, second = np.triu_indices(count + 1)
        weights = np.stack([first, second - first, count - second], axis=1) / count
        samples.append((weights @ triangles[steps == count]).reshape(-1, 3))
    return unique_rows(np.concatenate(samples).astype(np.float32))


def _solid_around(
    samples: np.ndarray, resolution: int, closing: Closing | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mesh, in cells, of the surface at the shell's radius around samples and of nothing inside of it."""
    size = np.ceil(samples.max(axis=0)).astype(int) + _MARGIN + 1
    around = np.zeros(size, dtype=bool)
    around[tuple(np.rint(samples).astype(int).T)] = True
    around = near(around, 2)
    distance = np.full(size, np.inf, dtype=np.float32)
    tree = cKDTree(samples)
    distance[around] = tree.query(np.argwhere(around), distance_upper_bound=2 * _SHELL_RADIUS, workers=-1)[0]
    field = np.minimum(distance - _SHELL_RADIUS, _SHELL_RADIUS)
    field[enclosed_points(field < 0, resolution, closing)] = -_SHELL_RADIUS
    return _zero_level(field)


def _zero_level(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Surface, in cells, of a field (X, Y, Z) whose border is outside."""
    inside = field < 0
    crossed = near(inside) & near(~inside)
    # a cube's first corner is at most one step from a crossed one, towards the origin
    cubes = torch.from_numpy(np.argwhere(near(crossed)[:-1, :-1, :-1]))
    resolution = max(field.shape)
    points, corners = shared_corners(cubes, resolution)
    values = torch.from_numpy(field)[tuple(points.T)]
    mesh = flexicubes(points.to(values.dtype), values, cubes, corners, resolution=resolution)
    return mesh.vertices.numpy(), mesh.faces.numpy()


def _drawn_back(points: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Move points (V, 3) at the shell's radius to the skin's; those of closed openings stay."""
    distance, nearest = cKDTree(samples).query(points, workers=-1)
    share = np.where(distance < 2 * _SHELL_RADIUS, 1 - _SKIN / _SHELL_RADIUS, 0)
    return (points + share[:, None] * (samples[nearest] - points)).astype(np.float32)
