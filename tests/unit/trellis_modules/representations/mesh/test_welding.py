"""Welding tensors against welding arrays: the same bytes."""

import numpy as np
import pytest
import torch

from trellis_modules.representations.mesh.triangle_arrays import triangle_areas, weld
from trellis_modules.representations.mesh.welding import weld_tensors


def soup(seed, places=6, triangles=200):
    """Triangles between few places, zero of both signs among them, with sides of no length."""
    draw = np.random.default_rng(seed)
    vertices = (draw.integers(-places, places, (150, 3)) / 8).astype(np.float32)
    vertices[draw.random(vertices.shape) < 0.2] = -0.0
    return vertices, draw.integers(0, len(vertices), (triangles, 3))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("seed", range(4))
def test_the_arrays_are_the_same_and_stay_the_same(device, seed):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    vertices, faces = soup(seed, places=2 + 4 * seed)
    expected = weld(vertices, faces)[:2]
    result = [
        part.cpu().numpy()
        for part in weld_tensors(*(torch.from_numpy(x).to(device) for x in (vertices, faces)))
    ]
    for actual, wanted, again in zip(result, expected, weld(*result)[:2]):
        assert np.array_equal(actual, wanted) and np.array_equal(again, wanted)


def test_no_triangles_are_welded_to_none():
    vertices, faces = weld_tensors(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.long))
    assert vertices.shape == faces.shape == (0, 3)


def test_areas_are_those_of_cross_products():
    vertices, faces = soup(1)
    corners = vertices.astype(np.float64)[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    np.testing.assert_allclose(triangle_areas(vertices, faces), np.linalg.norm(cross, axis=1) / 2)
    assert triangle_areas(vertices, faces[:0]).shape == (0,)
