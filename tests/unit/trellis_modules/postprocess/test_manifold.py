"""Surfaces that touch themselves are cut apart: every edge has two faces, every vertex one fan."""

import numpy as np
import pytest
import trimesh

from trellis_modules.postprocess import report_solid
from trellis_modules.postprocess.manifold import cancel_opposite_faces, make_manifold
from trellis_modules.postprocess.topology import MeshEdges, connected_labels
from trellis_modules.representations.mesh.triangle_arrays import weld

VOXEL = 1 / 8


def voxel_surface(occupied):
    """Outer sides of voxels (X, Y, Z) bool, with one vertex at each place: full of pinches."""
    padded = np.pad(np.asarray(occupied, dtype=bool), 1)
    triangles = []
    for axis in range(3):
        u, v = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
        for turn in (1, -1):
            outside = np.argwhere(padded & ~np.roll(padded, -turn, axis=axis))
            corner = outside + np.eye(3)[axis] * (turn > 0)
            quad = np.stack([corner, corner + u, corner + u + v, corner + v], axis=1)[:, ::turn]
            triangles += [quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]]
    corners = np.concatenate(triangles) * VOXEL
    return weld(corners.reshape(-1, 3).astype(np.float32), np.arange(corners.size // 3).reshape(-1, 3))[:2]


def assert_manifold(vertices, faces):
    assert report_solid(vertices, faces).watertight  # counts vertices at one place as one
    assert len(np.unique(vertices, axis=0)) == len(vertices)
    side = np.arange(faces.size)
    following = side - side % 3 + (side + 1) % 3
    # corners are neighbours in a fan when their faces share a side at them
    edge = MeshEdges.of(faces).of_face.ravel()
    first, second = np.argsort(edge, kind="stable").reshape(-1, 2).T
    pairs = np.concatenate([np.stack([first, following[second]], 1), np.stack([following[first], second], 1)])
    assert len(np.unique(connected_labels(pairs, faces.size))) == len(vertices)


DIAGONAL = np.eye(2, dtype=bool)[:, :, None]


@pytest.mark.parametrize(
    ("occupied", "bodies"),
    [
        (DIAGONAL, 2),  # two voxels that share an edge
        (np.eye(2, dtype=bool)[:, None] & np.eye(2, dtype=bool)[..., None], 2),  # a vertex
        (np.concatenate([np.ones((2, 2, 1), bool), DIAGONAL, np.ones((2, 2, 1), bool)], axis=2), 1),
    ],
    ids=["edge", "vertex", "edge whose ends belong to both sides"],
)
def test_touching_voxels_are_cut_apart(occupied, bodies):
    vertices, faces = voxel_surface(occupied)
    assert not (MeshEdges.of(faces).degree == 2).all() or len(vertices) < 8 * bodies
    vertices, faces = make_manifold(vertices, faces)
    assert_manifold(vertices, faces)
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    assert mesh.body_count == bodies
    assert mesh.volume == pytest.approx(occupied.sum() * VOXEL**3, rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_random_voxels(seed):
    occupied = np.random.default_rng(seed).random((6, 6, 6)) < 0.5
    vertices, faces = make_manifold(*voxel_surface(occupied))
    assert_manifold(vertices, faces)
    assert report_solid(vertices, faces).volume == pytest.approx(occupied.sum() * VOXEL**3, rel=0.01)


def test_manifold_surfaces_keep_their_places_and_faces():
    sphere = trimesh.creation.icosphere(subdivisions=2)
    vertices, faces = make_manifold(sphere.vertices, sphere.faces)
    np.testing.assert_array_equal(vertices[faces], sphere.triangles)


def test_opposite_faces_cancel_one_by_one():
    face, turned, other = [0, 1, 2], [2, 1, 0], [1, 2, 3]
    np.testing.assert_array_equal(cancel_opposite_faces(np.array([face, other, turned])), [other])
    twice = cancel_opposite_faces(np.array([face, [1, 2, 0], turned, other]))
    assert len(twice) == 2 and other in twice.tolist()
    assert len(cancel_opposite_faces(np.array([[0, 0, 1], other]))) == 1
    assert len(cancel_opposite_faces(np.zeros((0, 3), dtype=int))) == 0


def test_open_borders_stay():
    sheet = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=np.float32)
    vertices, faces = make_manifold(sheet, np.array([[0, 1, 2], [0, 2, 3]]))
    assert len(vertices) == 4 and len(faces) == 2
