"""Sparse extraction against the dense grid it stands for, and its defined failures."""

from itertools import product

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
    mesh = sparse_features_to_mesh(coords, feats, RESOLUTION, surface="released")
    dense = dense_mesh(coords, feats)
    assert torch.equal(mesh.faces, dense.faces)
    torch.testing.assert_close(mesh.vertices, dense.vertices, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mesh.vertex_attrs, dense.attributes, rtol=1e-5, atol=1e-6)


def block(low, high, resolution, value=-0.5):
    """All cubes between two corners of the grid, with one distance at their corners and neutral weights."""
    axes = [torch.arange(a, b) for a, b in zip(low, high)]
    coords = torch.cartesian_prod(*axes)
    feats = torch.zeros(len(coords), num_channels(False))
    feats[:, :8] = value
    return coords, feats


def open_sides(mesh):
    """How many sides of faces no other face runs the other way."""
    sides = torch.cat([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    forward, backward = (
        (pair[:, 0] * len(mesh.vertices) + pair[:, 1]).sort().values for pair in (sides, sides.flip(1))
    )
    return 0 if torch.equal(forward, backward) else len(sides) - int(torch.isin(forward, backward).sum())


def volume(mesh):
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


TOUCHING = [corner for corner in product((0, 2, 4), repeat=3) if corner != (2, 2, 2)]


@pytest.mark.parametrize("low", TOUCHING)  # six faces, twelve edges and eight corners of the cube
@pytest.mark.parametrize("surface", ["closed", "solid"])
def test_surfaces_at_the_border_are_closed_in_its_faces(low, surface):
    coords, feats = block(low, [start + 4 for start in low], 8)
    mesh = sparse_features_to_mesh(coords, feats, 8, use_color=False, surface=surface)
    assert open_sides(mesh) == 0 and volume(mesh) > 0.5**3
    assert mesh.vertices.abs().max() <= 0.5
    released = sparse_features_to_mesh(coords, feats, 8, use_color=False, surface="released")
    assert open_sides(released) > 0


@pytest.mark.parametrize("training", [False, True])
def test_any_field_is_closed(training):
    coords, feats = some_cubes(RESOLUTION**3)
    assert open_sides(sparse_features_to_mesh(coords, feats, RESOLUTION, training=training)) == 0


def test_away_from_the_border_nothing_changes():
    coords, feats = some_cubes(RESOLUTION**3)
    inner = ((coords > 0) & (coords < RESOLUTION - 1)).all(dim=1)
    coords, feats = coords[inner], feats[inner]
    border = ((coords == 1) | (coords == RESOLUTION - 2)).any(dim=1)
    feats[border, :8] = feats[border, :8].abs() + 1  # outside
    released = sparse_features_to_mesh(coords, feats, RESOLUTION, surface="released")
    closed = sparse_features_to_mesh(coords, feats, RESOLUTION)
    assert torch.equal(closed.faces, released.faces) and torch.equal(closed.vertices, released.vertices)
    assert torch.equal(closed.vertex_attrs, released.vertex_attrs)


def hollow_block(resolution=32, tear=0):
    """A hollow cube of cubes one thick, around 18^3 empty ones, with a square tear in its roof."""
    coords, feats = block((6, 6, 6), (26, 26, 26), resolution)
    shell = ((coords == 6) | (coords == 25)).any(dim=1)
    torn = (coords[:, 2] == 25) & ((coords[:, :2] - 16).float() + 0.5).abs().amax(dim=1).lt(tear / 2)
    keep = shell & ~torn
    return coords[keep], feats[keep]


@pytest.mark.parametrize("tear", [0, 2])
def test_a_shell_becomes_one_solid_with_the_same_outer_skin(tear):
    coords, feats = hollow_block(tear=tear)
    skins = sparse_features_to_mesh(coords, feats, 32, use_color=False)
    solid = sparse_features_to_mesh(coords, feats, 32, use_color=False, surface="solid")
    assert open_sides(solid) == 0
    assert volume(solid) == pytest.approx((20.5 / 32) ** 3, rel=0.05) and volume(solid) > 2 * volume(skins)
    outer = skins.vertices[skins.vertices.abs().amax(dim=1) > 9.7 / 32]
    below = outer[outer[:, 2] < 0.25]
    assert torch.cdist(below, solid.vertices).min(dim=1).values.max() == 0


def coloured(coords, raw):
    feats = torch.zeros(len(coords), num_channels(True))
    feats[:, :8], feats[:, 53:] = -0.5, raw
    return coords, feats


def test_colours_reach_the_faces_of_the_cube():
    coords, _ = block((0, 0, 0), (16, 16, 16), 32)
    mesh = sparse_features_to_mesh(*coloured(coords, 3.0), 32)
    in_face = (mesh.vertices[:, 0] < 1e-6 - 0.5) & (mesh.vertices[:, 1:] + 0.25).abs().lt(0.2).all(dim=1)
    expected = torch.full_like(mesh.vertex_attrs[in_face], 3.0).sigmoid()
    assert len(expected) > 50
    torch.testing.assert_close(mesh.vertex_attrs[in_face], expected)


@pytest.mark.parametrize("shift", [0, 6])  # inside of the grid, and at its border
def test_closed_openings_have_the_colour_of_their_surroundings(shift):
    coords, _ = hollow_block(tear=2)
    mesh = sparse_features_to_mesh(*coloured(coords - shift, 3.0), 32, surface="solid")
    torch.testing.assert_close(mesh.vertex_attrs, torch.full_like(mesh.vertex_attrs, 3.0).sigmoid())


def test_a_compartment_stays_open():
    coords, feats = hollow_block(tear=18)
    skins = sparse_features_to_mesh(coords, feats, 32, use_color=False)
    solid = sparse_features_to_mesh(coords, feats, 32, use_color=False, surface="solid")
    assert volume(solid) == pytest.approx(volume(skins), rel=0.02)


def test_solids_pass_gradients_to_the_skin():
    coords, feats = hollow_block()
    feats.requires_grad_()
    mesh = sparse_features_to_mesh(coords, feats, 32, use_color=False, surface="solid")
    mesh.vertices.square().sum().backward()
    assert feats.grad.isfinite().all() and feats.grad[:, :8].abs().sum() > 0


def test_unknown_surfaces_are_refused():
    with pytest.raises(ValueError, match="expected surface in .*got 'open'"):
        sparse_features_to_mesh(*some_cubes(), RESOLUTION, surface="open")


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
    # The first touches the border of the grid and is closed there.
    assert len(mesh.vertices) == 3 * 26 and mesh.vertices.isfinite().all()


def test_single_cube_that_fills_its_grid():
    cube = torch.zeros(1, 3).int(), -torch.ones(1, 101), 1
    assert not sparse_features_to_mesh(*cube, surface="released").success
    assert volume(sparse_features_to_mesh(*cube)) == pytest.approx(1.0, abs=0.5)


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
