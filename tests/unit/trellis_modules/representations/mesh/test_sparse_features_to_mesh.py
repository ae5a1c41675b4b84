"""Sparse extraction against the dense grid it stands for, and its defined failures."""

import pytest
import torch

from tests.cube_grids import dense_grid
from trellis_modules.representations.mesh.cube_grid import point_keys, shared_corners
from trellis_modules.representations.mesh.flexicubes import CubeWeights, flexicubes
from trellis_modules.representations.mesh.sparse_features_to_mesh import num_channels, sparse_features_to_mesh

RESOLUTION = 7


def some_cubes(count=60, use_color=True, seed=0):
    """Distinct cubes, some of them at the border, in no particular order, with features around zero."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randperm(RESOLUTION**3, generator=generator)[:count]
    coords = torch.stack([keys // RESOLUTION**2, keys // RESOLUTION % RESOLUTION, keys % RESOLUTION], dim=1)
    return coords.int(), torch.randn(count, num_channels(use_color), generator=generator)


def dense_mesh(coords, feats):
    """The definition: the whole grid, sdf +1 and zeros where nothing is known."""
    vertices, all_coords, all_corners = dense_grid(RESOLUTION)
    grid = torch.zeros(len(vertices), 10)
    grid[:, 0] = 1
    known, corners = shared_corners(coords, RESOLUTION)
    rows = point_keys(known, RESOLUTION + 1)[corners].flatten()
    sdf, deform, weights, colour = feats.split((8, 24, 21, 48), dim=1)
    values = torch.cat([sdf.reshape(-1, 1) - 1 / RESOLUTION, deform.reshape(-1, 3), colour.reshape(-1, 6)], 1)
    total = torch.zeros_like(grid).index_add(0, rows, values)
    count = torch.bincount(rows, minlength=len(grid))[:, None]
    grid = torch.where(count > 0, total / count.clamp_min(1), grid)
    all_weights = torch.zeros(len(all_coords), 21)
    all_weights[point_keys(coords, RESOLUTION)] = weights
    positions = vertices / RESOLUTION - 0.5 + (1 - 1e-8) / (2 * RESOLUTION) * grid[:, 1:4].tanh()
    return flexicubes(
        positions,
        grid[:, 0],
        all_coords,
        all_corners,
        resolution=RESOLUTION,
        weights=CubeWeights.split(all_weights),
        attributes=grid[:, 4:].sigmoid(),
    )


@pytest.mark.parametrize("count", [1, 60, RESOLUTION**3])
def test_equals_the_dense_extraction(count):
    coords, feats = some_cubes(count)
    mesh, dense = sparse_features_to_mesh(coords, feats, RESOLUTION), dense_mesh(coords, feats)
    assert torch.equal(mesh.faces, dense.faces)
    torch.testing.assert_close(mesh.vertices, dense.vertices, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mesh.vertex_attrs, dense.attributes, rtol=1e-5, atol=1e-6)


def test_features_stay_untouched_and_receive_gradients():
    coords, feats = some_cubes()
    before = feats.clone()
    feats.requires_grad_()
    mesh = sparse_features_to_mesh(coords, feats, RESOLUTION, training=True)
    (mesh.vertices.sum() + mesh.vertex_attrs.sum() + mesh.training.regularization).backward()
    assert torch.equal(feats.detach(), before)
    assert feats.grad.isfinite().all() and (feats.grad != 0).any(dim=0).sum() > 90


def test_far_apart_cubes_at_high_resolution_need_no_dense_grid():
    resolution = 2048
    coords = torch.tensor([[5, 5, 5], [2000, 1999, 1998]])
    mesh = sparse_features_to_mesh(coords, torch.full((2, 53), -1.0), resolution, use_color=False)
    assert len(mesh.vertices) == 2 * 26 and len(mesh.faces) == 2 * 2 * 24
    assert mesh.vertex_attrs is None


@pytest.mark.parametrize("training", [False, True])
def test_no_cubes_give_the_empty_mesh(training):
    mesh = sparse_features_to_mesh(torch.zeros(0, 3), torch.zeros(0, 101), 256, training=training)
    assert not mesh.success
    assert mesh.vertices.shape == (0, 3) and mesh.vertex_attrs.shape == (0, 6)
    assert mesh.face_normals().shape == (0, 3) and mesh.vertex_normals().shape == (0, 3)
    if training:
        assert mesh.training.regularization == 0


def test_everything_outside_gives_the_empty_mesh():
    coords, feats = some_cubes()
    assert not sparse_features_to_mesh(coords, feats.abs() + 1, RESOLUTION).success


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda coords, feats: (coords - 1, feats), r"coords must be in \[0, 7\), got \[-1"),
        (lambda coords, feats: (coords[:1].repeat(60, 1), feats), "a cube twice"),
        (lambda coords, feats: (coords, feats[:, :53]), r"expected feats \(C, 101\)"),
        (lambda coords, feats: (coords[:5], feats), "C rows of feats"),
        (lambda coords, feats: (coords + 0.5, feats), "must be integers, got torch.float32"),
        (lambda coords, feats: (coords, feats.where(feats < feats.max(), torch.nan)), "of 1 of 60 cubes"),
    ],
)
def test_bad_cubes_are_explained(change, message):
    with pytest.raises(ValueError, match=message):
        sparse_features_to_mesh(*change(*some_cubes()), RESOLUTION)


@pytest.mark.parametrize("resolution", [0, 2**20 + 1])
def test_resolutions_without_unique_keys_are_refused(resolution):
    with pytest.raises(ValueError, match=r"resolution must be in \[1, 1048576\]"):
        sparse_features_to_mesh(torch.zeros(1, 3).int(), torch.zeros(1, 101), resolution)


def test_keys_beyond_32_bits_stay_apart():
    resolution = 2**20
    coords = torch.tensor([[0, 4, 4], [4096, 4, 4], [resolution - 5] * 3])  # the first two equal modulo 2^32
    mesh = sparse_features_to_mesh(coords, torch.full((3, 53), -1.0), resolution, use_color=False)
    # The first is cut off at the border of the grid.
    assert len(mesh.vertices) > 2 * 26 and mesh.vertices.isfinite().all()


def test_single_cube_that_fills_its_grid_has_no_crossing():
    assert not sparse_features_to_mesh(torch.zeros(1, 3).int(), -torch.ones(1, 101), 1).success


def test_half_precision_features_are_computed_in_single():
    coords, feats = some_cubes()
    half = sparse_features_to_mesh(coords, feats.half(), RESOLUTION).vertices
    single = sparse_features_to_mesh(coords, feats.half().float(), RESOLUTION).vertices
    assert half.dtype == torch.float32 and torch.equal(half, single)


def test_normals_of_a_single_voxel_point_outwards():
    coords = torch.tensor([[3, 3, 3]])
    mesh = sparse_features_to_mesh(coords, torch.full((1, 53), -1.0), RESOLUTION, use_color=False)
    assert (mesh.vertex_normals() * mesh.vertices).sum(dim=1).min() > 0  # the voxel's centre is the origin
    assert (mesh.face_normals() * mesh.vertices[mesh.faces].mean(dim=1)).sum(dim=1).min() > 0
