"""A wanted number of triangles is reached."""

import numpy as np
import pytest
import trimesh

from trellis_modules.postprocess.face_count import TOLERANCE, simplify_to


@pytest.mark.parametrize("count", [100, 333, 5000])
@pytest.mark.parametrize("shape", ["ball", "torus"])
def test_number_is_reached(count, shape):
    ball = trimesh.creation.icosphere(subdivisions=5)
    mesh = ball if shape == "ball" else trimesh.creation.torus(1.0, 0.3, 96, 96)
    vertices, faces = simplify_to(mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32), count)
    assert abs(len(faces) - count) <= TOLERANCE * count
    assert faces.max() < len(vertices)


def test_a_mesh_with_fewer_faces_stays():
    mesh = trimesh.creation.box()
    vertices, faces = simplify_to(mesh.vertices, mesh.faces, 12)
    assert vertices is mesh.vertices and faces is mesh.faces


def test_loose_parts_that_no_collapse_brings_down_come_back():
    parts = trimesh.util.concatenate(
        [trimesh.creation.box(transform=np.diag([1, 1, 1, 1.0])) for _ in range(50)]
    )
    parts.vertices += np.repeat(np.arange(50), 8)[:, None] * 3.0
    _, faces = simplify_to(parts.vertices.astype(np.float32), parts.faces.astype(np.int32), 10)
    assert 0 < len(faces) <= len(parts.faces)
