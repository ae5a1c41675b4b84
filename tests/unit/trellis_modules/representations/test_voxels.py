"""Voxels that triangles touch, against clipping of each triangle by each box."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from scenegen.synthesis.furniture.procedural.pack import generate_pack
from trellis_modules.representations.voxels import surface_voxels, touched_voxels


def clipped_voxels(vertices: np.ndarray, faces: np.ndarray, resolution: int) -> np.ndarray:
    """Clip every triangle by the six planes of every voxel near it; what is left of it touches the voxel."""
    grid = np.zeros((resolution,) * 3, dtype=bool)
    corners = (np.clip(vertices.astype(np.float64), -0.5 + 1e-6, 0.5 - 1e-6) + 0.5) * resolution
    for triangle in corners[faces]:
        low = np.maximum(np.floor(triangle.min(axis=0)).astype(int) - 1, 0)
        high = np.minimum(np.floor(triangle.max(axis=0)).astype(int), resolution - 1)
        for x in range(low[0], high[0] + 1):
            slab = _clipped(list(triangle), 0, x)
            for y in range(low[1], high[1] + 1) if slab else ():
                column = _clipped(slab, 1, y)
                for z in range(low[2], high[2] + 1) if column else ():
                    grid[x, y, z] |= bool(_clipped(column, 2, z))
    return grid


def _clipped(polygon: list[np.ndarray], axis: int, start: int) -> list[np.ndarray]:
    """The part of a polygon between two planes, borders included (Sutherland and Hodgman)."""
    for sign, limit in ((1.0, start), (-1.0, start + 1)):
        kept = []
        for corner, following in zip(polygon, polygon[1:] + polygon[:1]):
            here, there = sign * (corner[axis] - limit), sign * (following[axis] - limit)
            if here >= 0:
                kept.append(corner)
            if (here > 0 and there < 0) or (here < 0 and there > 0):
                crossing = corner + (following - corner) * (here / (here - there))
                crossing[axis] = limit
                kept.append(crossing)
        polygon = kept
    return polygon


def turned(mesh: trimesh.Trimesh, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A mesh turned at random and fitted to the cube, in float32 as it is read from a file."""
    mesh.apply_transform(
        trimesh.transformations.random_rotation_matrix(np.random.default_rng(seed).random(3))
    )
    vertices = mesh.vertices - mesh.bounds.mean(axis=0)
    return (vertices / mesh.extents.max()).astype(np.float32), mesh.faces


@pytest.mark.parametrize("seed", range(3))
def test_turned_shapes_touch_what_clipping_finds(seed: int) -> None:
    shapes = (
        trimesh.creation.box((1, 0.3, 0.02)),
        trimesh.creation.cone(0.3, 1),
        trimesh.creation.icosphere(1),
    )
    vertices, faces = turned(shapes[seed], seed)
    np.testing.assert_array_equal(touched_voxels(vertices, faces, 24), clipped_voxels(vertices, faces, 24))


@pytest.mark.parametrize("count", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_furniture_touches_what_clipping_finds(count: int) -> None:
    pack = generate_pack(count, seed=5, workers=1)
    for mesh, info in pack.models():
        vertices = mesh.vertices[:, [0, 2, 1]] * [1, -1, 1]
        expected = clipped_voxels(vertices, mesh.faces, 64)
        np.testing.assert_array_equal(touched_voxels(vertices, mesh.faces, 64), expected, err_msg=info.id)


def test_face_between_two_voxels_occupies_both() -> None:
    vertices = np.array([[0, -0.45, -0.45], [0, -0.3, -0.45], [0, -0.45, -0.3]])
    grid = touched_voxels(vertices, np.array([[0, 1, 2]]), 4)
    assert np.argwhere(grid).tolist() == [[1, 0, 0], [2, 0, 0]]


def test_points_outside_are_moved_to_the_border() -> None:
    vertices = np.array([[-3.0, 0.1, 0.1], [-3.0, 0.1, 0.15], [-0.45, 0.1, 0.1]])
    assert np.argwhere(touched_voxels(vertices, np.array([[0, 1, 2]]), 4)).tolist() == [[0, 2, 2]]


def test_exact_voxels_hold_those_of_sampled_points() -> None:
    vertices, faces = turned(trimesh.creation.torus(1.0, 0.3), 4)
    sampled, exact = surface_voxels(vertices, faces, 32), touched_voxels(vertices, faces, 32)
    assert not (sampled & ~exact).any() and 0 < (exact & ~sampled).sum() < 0.15 * exact.sum()


def test_triangles_without_area_and_empty_meshes() -> None:
    line = np.array([[-0.4, -0.3, -0.2], [0.4, 0.35, 0.1], [0.0, 0.025, -0.05]])
    np.testing.assert_array_equal(
        touched_voxels(line, np.array([[0, 1, 2]]), 8), clipped_voxels(line, np.array([[0, 1, 2]]), 8)
    )
    assert not touched_voxels(line, np.zeros((0, 3), int), 8).any()
    with pytest.raises(ValueError, match="touched_voxels: 1 of 3 vertices are not finite"):
        touched_voxels(np.vstack([line[:2], [[np.nan, 0, 0]]]), np.array([[0, 1, 2]]), 8)
