"""What a shell encloses, by sweeps over tensors: the points that NumPy and SciPy find."""

import numpy as np
import pytest
import torch

from trellis_modules.representations.mesh.enclosed import enclosed_points, near
from trellis_modules.representations.mesh.grid_tensors import STEPS, enclosed, near_points
from trellis_modules.representations.mesh.sparse_features_to_mesh import _nearest_rows

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def shells():
    """A ball with an opening, a maze of walls, sparse noise, dense noise, and nothing."""
    x, y, z = np.mgrid[:30, :26, :22] - np.array([15, 13, 11]).reshape(3, 1, 1, 1)
    distance = np.sqrt(x**2 + y**2 + z**2)
    ball = (distance > 7) & (distance < 10) & ~((np.abs(x) < 2) & (y > 0))
    maze = np.zeros((30, 26, 22), bool)
    maze[::3] = True
    for number, wall in enumerate(range(0, 30, 3)):
        maze[wall, 2 * (number % 2) * 10 + 1, 3:6] = False
    draw = np.random.default_rng(0).random((2, 17, 31, 9))
    return [ball, maze, draw[0] < 0.1, draw[1] < 0.45, np.zeros((5, 6, 7), bool)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("resolution", [8, 64])
def test_the_same_points_are_enclosed(device, number, resolution):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    shell = shells()[number]
    expected = enclosed_points(shell, resolution)
    tensor = torch.from_numpy(shell).to(device)
    assert np.array_equal(enclosed_points(tensor, resolution, steps=STEPS).cpu().numpy(), expected)
    assert np.array_equal(enclosed(tensor, resolution).cpu().numpy(), expected)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_the_same_points_are_near(steps):
    for shell in shells():
        expected = near(shell, steps)
        tensor = torch.from_numpy(shell)
        assert np.array_equal(STEPS.near(tensor, steps).numpy(), expected)
        assert np.array_equal(near_points(tensor, steps).numpy(), expected)


def test_what_a_winding_way_joins_to_the_corner_is_outside():
    solid = torch.from_numpy(shells()[1])
    solid[0, 0, 0] = False
    from trellis_modules.representations.mesh.enclosed import _outside

    assert np.array_equal(STEPS.outside(solid).numpy(), _outside(solid.numpy()))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("share", [0.001, 0.1, 0.9])
def test_rows_are_those_of_a_nearest_point(device, share):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU")
    generator = torch.Generator().manual_seed(0)
    is_known = torch.rand(12, 13, 14, generator=generator) < share
    is_known[5, 6, 7] = True
    known = torch.full(is_known.shape, -1, dtype=torch.int32)
    known[is_known] = torch.arange(int(is_known.sum()), dtype=torch.int32)
    places = is_known.nonzero()
    points = (~is_known)[1:-1, 1:-1, 1:-1].nonzero() + 1
    rows = _nearest_rows(known.to(device), points.to(device)).cpu()
    distances = torch.cdist(points.double(), places.double())
    chosen = distances.gather(1, rows[:, None])[:, 0]
    torch.testing.assert_close(chosen, distances.amin(dim=1))
