"""Charts cover the texture without overlap, whole or in blocks."""

import numpy as np
import pytest
import trimesh

from trellis_modules.postprocess import unwrap as unwrap_module
from trellis_modules.postprocess.unwrap import unwrap


@pytest.fixture(params=["whole", "blocks"])
def unwrapped(request, monkeypatch):
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    if request.param == "blocks":
        monkeypatch.setattr(unwrap_module, "_MAX_FACES_WHOLE", 500)
        monkeypatch.setattr(unwrap_module, "_MAX_FACES_BLOCK", 200)
    return sphere, unwrap(sphere.vertices, sphere.faces, texture_size=128)


def test_faces_keep_their_order_and_places(unwrapped):
    sphere, charts = unwrapped
    np.testing.assert_array_equal(charts.vertex[charts.faces], sphere.faces)


def test_coordinates_are_within_the_texture_and_do_not_overlap(unwrapped):
    _, charts = unwrapped
    assert charts.uvs.min() >= 0 and charts.uvs.max() <= 1
    a, b, c = charts.uvs[charts.faces].transpose(1, 0, 2).astype(np.float64)
    areas = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    assert (areas > 0).all()
    # points drawn inside the triangles meet no other triangle
    middle = (a + b + c) / 3
    corners = np.stack([a, b, c], axis=1)
    edge = np.roll(corners, -1, axis=1) - corners
    offset = middle[:, None, None] - corners[None]
    side = edge[None, ..., 0] * offset[..., 1] - edge[None, ..., 1] * offset[..., 0]
    inside = (side > 1e-9).all(axis=2) | (side < -1e-9).all(axis=2)
    np.testing.assert_array_equal(inside.sum(axis=1), 1)
