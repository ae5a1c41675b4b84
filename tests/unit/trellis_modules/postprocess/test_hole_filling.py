"""Holes are closed, flat ones exactly, and long ones are left."""

import numpy as np
import pytest
import trimesh

from trellis_modules.postprocess.hole_filling import fill_holes


def as_mesh(vertices, faces):
    return trimesh.Trimesh(vertices, faces, process=False)


@pytest.fixture
def open_sphere():
    """A sphere without its cap, and the length of the border."""
    sphere = trimesh.creation.icosphere(subdivisions=3)
    kept = sphere.faces[sphere.triangles_center[:, 2] < 0.85]
    return sphere.vertices, kept


def test_hole_is_closed_with_the_right_side_out(open_sphere):
    vertices, faces = fill_holes(*open_sphere, max_edges=60)
    mesh = as_mesh(vertices, faces)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
    np.testing.assert_array_equal(faces[: len(open_sphere[1])], open_sphere[1])


def test_long_border_stays_open(open_sphere):
    _, faces = fill_holes(*open_sphere, max_edges=5)
    assert len(faces) == len(open_sphere[1])


def test_flat_hole_that_is_not_convex_gets_its_own_area():
    outline = [[0, 0], [3, 0], [3, 1], [1, 1], [1, 3], [0, 3]]
    solid = trimesh.creation.extrude_triangulation(
        np.array(outline), np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 5]]), 1.0
    )
    flat_top = np.isclose(solid.face_normals[:, 2], 1)
    vertices, faces = fill_holes(solid.vertices, solid.faces[~flat_top], max_edges=10)
    mesh = as_mesh(vertices, faces)
    assert mesh.is_watertight
    assert mesh.area == pytest.approx(solid.area) and mesh.volume == pytest.approx(solid.volume)


def test_existing_edges_are_not_used_twice():
    # two triangles share the diagonal that the hole on their other side would need: it gets a middle instead
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.0]])
    below = square.mean(axis=0, keepdims=True) - [[0, 0, 1]]
    vertices = np.concatenate([square, below, below + [[0, 0, -1]]])
    flaps = np.array([[0, 2, 4], [1, 3, 5]])  # occupy both diagonals
    walls = np.array([[0, 1, 5], [1, 2, 4], [2, 3, 5], [3, 0, 4]])
    filled_vertices, filled = fill_holes(vertices, np.concatenate([walls, flaps]), max_edges=4)
    edges = np.sort(np.stack([filled, np.roll(filled, -1, axis=1)], axis=-1).reshape(-1, 2))
    _, degree = np.unique(edges, axis=0, return_counts=True)
    assert degree.max() <= 2


def test_closed_mesh_is_unchanged():
    box = trimesh.creation.box()
    vertices, faces = fill_holes(box.vertices, box.faces, max_edges=100)
    np.testing.assert_array_equal(faces, box.faces)
    np.testing.assert_array_equal(vertices, box.vertices)
