"""Shapes on the device: gathering, variants, surface voxels."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh

from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.layouts.scene_layout import PlacedObject, augment_vertices
from scenegen.synthesis.shapes.shape_bank import (
    ShapeBank,
    Triangles,
    Variants,
    bend_axes,
    make_variants,
    surface_occupancy,
)

CPU = torch.device("cpu")
RESOLUTION = 16


@pytest.fixture
def shapes():
    """A box and a lopsided tetrahedron, both with the box centred and the longest side 1."""
    tetrahedron = trimesh.Trimesh(
        [[-0.5, -0.2, -0.1], [0.5, -0.2, 0.0], [0.1, 0.2, 0.1], [-0.3, 0.0, 0.1]],
        [[0, 2, 1], [0, 1, 3], [1, 2, 3], [0, 3, 2]],
        process=False,
    )
    return [trimesh.creation.box(extents=(1.0, 0.6, 0.3)), tetrahedron]


@pytest.fixture
def bank(shapes, make_pack):
    return ShapeBank(make_pack(shapes), CPU)


def occupancy(mesh: trimesh.Trimesh) -> np.ndarray:
    """(16, 16, 16) bool surface voxels of a y-up mesh."""
    corners = torch.as_tensor(np.array(mesh.triangles), dtype=torch.float32)
    triangles = Triangles(corners, torch.zeros(len(corners), dtype=torch.long), torch.zeros(len(corners), 3))
    grid = surface_occupancy(triangles, 1, RESOLUTION, 65536, torch.Generator().manual_seed(0))
    return grid[0, 0].numpy()


def test_gathering_repeats_objects_in_the_order_asked_for(bank, shapes):
    found = bank.gather(torch.tensor([1, 0, 1]))
    expected = np.concatenate([shapes[k].triangles for k in (1, 0, 1)])
    np.testing.assert_allclose(found.corners.numpy(), expected, atol=1e-6)
    counts = torch.tensor([len(shapes[k].faces) for k in (1, 0, 1)])
    assert torch.equal(found.owner, torch.arange(3).repeat_interleave(counts))
    number = torch.tensor([1, 0, 1])[found.owner]
    torch.testing.assert_close(found.colours * 255, torch.stack([number, 2 * number, 3 * number], -1).float())


@pytest.mark.parametrize("mirror", [False, True])
def test_variants_are_stretched_like_placed_objects(bank, shapes, mirror):
    stretch = (0.7, 1.6, 1.1)
    variants = Variants(
        torch.tensor([1]), torch.tensor([stretch]), torch.tensor([mirror]), torch.zeros(1, 4), bank.infos[1:]
    )
    corners = variants.triangles(bank, torch.tensor([0, 0])).corners[len(shapes[1].faces) :]
    placed = PlacedObject("", (0.0, 0.0, 0.0), 0.0, 1.0, stretch, mirror)
    expected = augment_vertices(shapes[1].vertices, placed)[shapes[1].faces]
    np.testing.assert_allclose(corners.numpy(), expected, atol=1e-6)
    assert (corners.amax((0, 1)) - corners.amin((0, 1))).max() == pytest.approx(1.0, abs=1e-6)


def test_bends_keep_the_box_the_middle_plane_and_the_order_along_each_axis():
    line = torch.linspace(-1, 1, 201)
    points = line[:, None].expand(-1, 3)
    bent = bend_axes(points, torch.tensor([0.5, -0.3, 0.3, -0.5]))
    torch.testing.assert_close(bent[[0, -1]], points[[0, -1]], atol=1e-6, rtol=0)
    assert (bent.diff(dim=0) > 0).all()
    torch.testing.assert_close(bent[:, [0, 2]], -bent.flip(0)[:, [0, 2]], atol=1e-6, rtol=0)
    assert bent[100, 1] == pytest.approx(2 * 0.3 / np.pi, abs=1e-6)  # the middle is lifted
    assert (bent - points).abs().max() > 0.1


def test_bends_keep_symmetries_and_four_in_ten_shapes_as_they_are(make_pack, shapes):
    pack = make_pack([shapes[0]] * 4)
    infos = tuple(replace(info, symmetry=order) for info, order in zip(pack.infos, (0, 4, 2, 1), strict=True))
    bank = ShapeBank(replace(pack, infos=infos), CPU)
    assert not make_variants(bank, 50, np.random.default_rng(0), 1.0, 1.5, CPU).bend.any()
    variants = make_variants(bank, 2000, np.random.default_rng(0), 1.0, 1.0, CPU, max_bend=0.5)
    bend, order = variants.bend, torch.tensor([infos[int(m)].symmetry for m in variants.models])
    assert 0.45 < float(bend.abs().max()) <= 0.5
    assert float((bend == 0).all(1).float().mean()) == pytest.approx(0.4, abs=0.04)
    assert not bend[order == 0][:, [0, 3]].any() and bend[order == 0][:, 1:3].any()
    torch.testing.assert_close(bend[order == 4, 0], bend[order == 4, 3])
    assert (bend[order == 1, 0] != bend[order == 1, 3]).any()


def test_the_sides_of_bent_and_stretched_shapes_are_known(bank):
    variants = make_variants(bank, 40, np.random.default_rng(1), 1.0, 1.5, CPU, max_bend=0.5)
    rows = torch.arange(40)
    found = variants.triangles(bank, rows)
    half = variants.half_extents(bank, rows)
    for row in range(40):
        corners = found.corners[found.owner == row].flatten(0, 1)
        torch.testing.assert_close(corners.amax(0), half[row], atol=1e-5, rtol=0)
    torch.testing.assert_close(half.amax(1), torch.full((40,), 0.5))


def test_unequal_stretch_leaves_half_turns_at_most(make_pack, shapes):
    pack = make_pack([shapes[0]] * 4)
    infos = tuple(replace(info, symmetry=order) for info, order in zip(pack.infos, (0, 4, 2, 1), strict=True))
    bank = ShapeBank(replace(pack, infos=infos), CPU)
    variants = make_variants(bank, 400, np.random.default_rng(0), 1.0, 1.5, CPU)
    seen = set()
    for row, info in enumerate(variants.infos):
        order = infos[int(variants.models[row])].symmetry
        x, y, z = variants.stretch[row].tolist()
        np.testing.assert_allclose(info.size_m, (1.0 * x, 0.6 * y, 0.3 * z), rtol=1e-5)
        is_square = abs(x / z - 1) <= 0.03
        assert info.symmetry == (order if is_square or order in (1, 2) else 2)
        assert info.id == str(row)
        seen.add((order, is_square))
    assert len(seen) == 8
    ratios = variants.stretch[:, :, None] / variants.stretch[:, None, :]
    assert 1.3 < ratios.max() <= 1.5 + 1e-5


@pytest.mark.parametrize(("kept", "share"), [("both", 0.25), ("real", 1.0), ("procedural", 0.0)])
def test_the_share_of_real_models_holds_where_there_is_a_choice(make_pack, shapes, furniture, kept, share):
    packs = {"real": [make_pack(shapes)], "procedural": [furniture]}
    packs["both"] = packs["real"] + packs["procedural"]
    bank = ShapeBank(MeshPack.concatenate(packs[kept]), CPU)
    variants = make_variants(bank, 2000, np.random.default_rng(0), 0.25, 1.2, CPU)
    is_real = [not bank.infos[model].id.startswith("procedural/") for model in variants.models.tolist()]
    assert np.mean(is_real) == pytest.approx(share, abs=0.04)


def test_surface_voxels_of_a_box_are_its_shell():
    inside = np.zeros((RESOLUTION,) * 3, bool)
    # y-up sides 1, 0.6, 0.3 are z-up sides 1 (x), 0.3 (y), 0.6 (z): voxels 0..15, 5..10, 3..12.
    inside[:, 5:11, 3:13] = True
    core = np.zeros_like(inside)
    core[1:-1, 6:10, 4:12] = True
    np.testing.assert_array_equal(occupancy(trimesh.creation.box(extents=(1.0, 0.6, 0.3))), inside & ~core)


def test_surface_voxels_of_a_sphere_hold_the_radius():
    found = occupancy(trimesh.creation.icosphere(subdivisions=4, radius=0.45))
    edges = np.arange(RESOLUTION + 1) / RESOLUTION - 0.5
    nearest = np.maximum(np.maximum(edges[:-1], -edges[1:]), 0)
    farthest = np.maximum(np.abs(edges[:-1]), np.abs(edges[1:]))
    low, high = (np.sqrt(sum(np.meshgrid(*[side**2] * 3, indexing="ij"))) for side in (nearest, farthest))
    assert not found[(high < 0.445) | (low > 0.45)].any()  # the polyhedron dips below its radius
    assert found[(low < 0.44) & (high > 0.46)].mean() > 0.995


def test_objects_without_triangles_give_empty_grids():
    corners = torch.tensor([[[-0.4, 0.0, 0.0], [0.4, 0.0, 0.0], [0.0, 0.3, 0.2]]])
    triangle = Triangles(corners, torch.tensor([1]), torch.zeros(1, 3))
    grid = surface_occupancy(triangle, 3, RESOLUTION, 200, torch.Generator().manual_seed(0))
    assert grid.shape == (3, 1, RESOLUTION, RESOLUTION, RESOLUTION)
    assert grid.flatten(1).any(1).tolist() == [False, True, False]
    nothing = Triangles(corners[:0], triangle.owner[:0], torch.zeros(0, 3))
    assert not surface_occupancy(nothing, 2, RESOLUTION, 200, torch.Generator().manual_seed(0)).any()
