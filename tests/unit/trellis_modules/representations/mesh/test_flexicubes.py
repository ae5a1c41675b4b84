"""Extraction from dense grids: topology, gradients, errors."""

import pytest
import torch

from tests.cube_grids import dense_grid
from trellis_modules.representations.mesh.flexicubes import CubeWeights, flexicubes

RESOLUTION = 6


def extract(sdf, **options):
    vertices, coords, corners = dense_grid(RESOLUTION)
    positions = vertices.to(sdf.dtype) / RESOLUTION - 0.5
    return flexicubes(positions, sdf, coords, corners, resolution=RESOLUTION, **options)


def noise_inside(seed=0):
    """Random signs, outside on the border: every case of the tables in a closed surface."""
    n = RESOLUTION + 1
    sdf = torch.randn(n, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    border = torch.ones_like(sdf, dtype=torch.bool)
    border[1:-1, 1:-1, 1:-1] = False
    return sdf.abs().where(border, sdf).flatten()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("training", [False, True])
def test_random_fields_give_closed_oriented_surfaces(seed, training):
    mesh = extract(noise_inside(seed), training=training)
    edges = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    forward, forward_count = (edges[:, 0] * len(mesh.vertices) + edges[:, 1]).unique(return_counts=True)
    backward, backward_count = (edges[:, 1] * len(mesh.vertices) + edges[:, 0]).unique(return_counts=True)
    assert torch.equal(forward, backward) and torch.equal(forward_count, backward_count)
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    assert (torch.linalg.cross(a, b) * c).sum() > 0  # six times the volume: outward


@pytest.mark.parametrize("training", [False, True])
def test_gradients(training):
    n_cubes = RESOLUTION**3
    generator = torch.Generator().manual_seed(1)

    def outputs(sdf, attributes, raw):
        mesh = extract(sdf, weights=CubeWeights.split(raw), attributes=attributes, training=training)
        return mesh.vertices.square().sum() + mesh.attributes.sum() + mesh.deviation.sum()

    sdf = noise_inside().requires_grad_()
    attributes = torch.randn(len(sdf), 2, generator=generator, dtype=torch.float64, requires_grad=True)
    raw = (0.3 * torch.randn(n_cubes, 21, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(outputs, (sdf, attributes, raw), fast_mode=True)


def test_nothing_inside_gives_the_empty_mesh():
    mesh = extract(torch.ones((RESOLUTION + 1) ** 3), attributes=torch.zeros((RESOLUTION + 1) ** 3, 3))
    assert mesh.vertices.shape == (0, 3) and mesh.faces.shape == (0, 3) and mesh.attributes.shape == (0, 3)


def test_nan_distance_is_an_error():
    sdf = noise_inside()
    sdf[40] = float("nan")
    with pytest.raises(ValueError, match="1 of 343 signed distances are NaN"):
        extract(sdf)


def test_shapes_are_checked():
    vertices, coords, corners = dense_grid(2)
    with pytest.raises(ValueError, match="positions"):
        flexicubes(vertices.float(), torch.zeros(3), coords, corners, resolution=2)
    with pytest.raises(ValueError, match="corners"):
        flexicubes(vertices.float(), torch.ones(27), coords, corners[:, :4], resolution=2)
