"""What octrees can hold beside plain voxels, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch

from tests.unit.trellis_modules.renderers.octree_scenes import (
    LENS,
    cameras,
    draw_and_differentiate,
    field_parameters,
    mixed_nodes,
    octree_of,
    voxel_parameters,
)
from trellis_modules.renderers import render_octree
from trellis_modules.renderers.backends import torch_octree
from trellis_modules.renderers.cameras import eye_positions, orbit_extrinsics
from trellis_modules.renderers.spherical_harmonics import evaluate_spherical_harmonics
from trellis_modules.representations.octree import OBJECT_AABB, OctreeNodes, VoxelOctree
from trellis_modules.representations.strivec import Strivec

NODES = mixed_nodes(4)
SIZE = 16
FRONT = orbit_extrinsics(torch.zeros(1), torch.zeros(1), 2.0)


def plain_field(count=1, weight=2.0):
    """Leaves that hold the same everywhere: density softplus(weight), colour 0.5."""
    coords = torch.cartesian_prod(*[torch.arange(count)] * 3)
    nodes = OctreeNodes.from_coords(coords, count)
    number = len(coords)
    return Strivec(
        nodes, torch.ones(number, 1, 3, 2), torch.full((number, 1), weight), torch.zeros(number, 1, 1, 3)
    )


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_harmonics_are_taken_from_the_eye_to_the_middle_of_a_voxel(degree):
    octree = octree_of(NODES, voxel_parameters(NODES, degree))
    pose = cameras(1)
    features = torch.cat([octree.features_dc, octree.features_rest], dim=1)
    directions = torch.nn.functional.normalize(NODES.xyz - eye_positions(pose), dim=-1)
    colour = (0.5 + evaluate_spherical_harmonics(degree, features.mT, directions)).clamp(0, 1)
    assert (colour.amax(0) == 1).all() and (colour.amin(0) == 0).all()
    fixed = VoxelOctree(NODES, hidden_density=octree.hidden_density, leaf_colours=colour)
    ours, expected = (render_octree(tree, pose, LENS, SIZE).colour for tree in (octree, fixed))
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("degree", [1, 3])
def test_harmonics_of_a_field_depend_on_the_view(degree):
    values = field_parameters(NODES, degree=degree)
    pose = cameras(1)
    features = torch.cat([values["features_dc"], values["features_rest"]], dim=2)
    directions = torch.nn.functional.normalize(NODES.xyz - eye_positions(pose), dim=-1)[:, None]
    seen = evaluate_spherical_harmonics(degree, features.mT, directions) / 0.28209479177387814
    fixed = octree_of(NODES, {**values, "features_dc": seen[:, :, None], "features_rest": None})
    ours, expected = (
        render_octree(tree, pose, LENS, SIZE).colour for tree in (octree_of(NODES, values), fixed)
    )
    torch.testing.assert_close(ours, expected)


def test_components_beyond_used_rank_do_not_count():
    values = field_parameters(NODES, rank=5)
    used = {name: value[:, :2] for name, value in values.items()}
    part, whole = octree_of(NODES, values, used_rank=2), octree_of(NODES, used)
    ours, expected = (render_octree(tree, cameras(1), LENS, SIZE).colour for tree in (part, whole))
    torch.testing.assert_close(ours, expected)


def test_a_shifted_density_is_lower_and_steeper():
    shifted = replace(plain_field(weight=4.0), density_shift=0.5)
    density = math.log1p(math.exp(4 - 5)) * 2
    alpha = render_octree(shifted, FRONT, LENS, 1).alpha
    assert float(alpha) == pytest.approx(1 - math.exp(-density), rel=1e-4)


def test_final_colours_are_drawn_as_they_are():
    colour = torch.tensor([[3.0, -1.0, 0.25]])
    nodes = plain_field().nodes
    solid = render_octree(VoxelOctree(nodes, leaf_colours=colour), FRONT, LENS, 1)
    torch.testing.assert_close(solid.colour[0, 0], 0.999 * colour)
    field = replace(plain_field(), features_dc=None, leaf_colours=colour)
    picture = render_octree(field, FRONT, LENS, 1)
    torch.testing.assert_close(picture.colour[0, 0], picture.alpha[0, 0] * colour)


def test_percent_depth_is_where_half_of_the_light_is_gone():
    weight = 3.0  # softplus: half of the light is gone after log(2) / 3.05 = 0.23 of the cube
    samples = 64
    picture = render_octree(plain_field(weight=weight), FRONT, LENS, 1, samples=samples)
    half = 1.5 + math.log(2) / math.log1p(math.exp(weight))
    assert float(picture.percent_depth) == pytest.approx(half, abs=1 / samples)
    thin = render_octree(plain_field(weight=-3.0), FRONT, LENS, 1)
    assert float(thin.percent_depth) == 0 and float(thin.depth) == pytest.approx(2, abs=0.02)
    assert not render_octree(
        replace(plain_field(), density=torch.ones(1, 1, requires_grad=True)), FRONT, LENS, 1
    ).percent_depth.requires_grad


def test_samples_of_a_comb_are_shared_by_leaves_of_one_size():
    # along the axis of the camera: steps of a quarter of an eighth of the cube, over the whole cube
    field = plain_field(8)
    step = 1 / 8 / 4
    for offset in (0.1, 0.6):
        picture = render_octree(field, FRONT, LENS, 1, offsets=torch.full((1, 1, 1), offset))
        first, last = math.ceil(1.5 / step - offset), math.floor(2.5 / step - offset)
        thickness = math.log1p(math.exp(2.0)) * step * (last - first + 1)
        assert float(picture.alpha) == pytest.approx(1 - math.exp(-thickness), rel=1e-4)


def test_default_samples_are_nearer_to_the_mean_picture_than_a_random_comb():
    generator = torch.Generator().manual_seed(5)
    coords = torch.cartesian_prod(*[torch.arange(4)] * 3)
    nodes = OctreeNodes.from_coords(coords, 64)  # a corner of the object, seen through a narrow lens
    values = field_parameters(nodes, rank=16, dim=8)
    field = octree_of(nodes, {**values, "density": 4 * values["density"]})
    pose = FRONT.clone()
    pose[:, :3, 3] -= pose[:, :3, :3] @ (nodes.xyz.mean(0))
    lens = torch.diag(torch.tensor([15.0, 15.0, 1.0]))
    lens[:2, 2] = 0.5

    def random_picture():
        offsets = torch.rand(1, SIZE, SIZE, generator=generator)
        return render_octree(field, pose, lens, SIZE, offsets=offsets).colour

    pictures = torch.stack([random_picture() for _ in range(48)])
    ours = (render_octree(field, pose, lens, SIZE).colour - pictures.mean(0)).abs().mean()
    random = (random_picture() - pictures.mean(0)).abs().mean()
    assert pictures.mean() > 0.1
    assert ours < 0.5 * random


def test_a_part_of_the_rows_at_a_time_gives_the_same_picture(monkeypatch):
    octree = octree_of(NODES, voxel_parameters(NODES))
    whole = render_octree(octree, cameras(2), LENS, (SIZE, SIZE + 5)).colour
    monkeypatch.setattr(torch_octree, "_MAX_PAIRS", {"cpu": 200})
    torch.testing.assert_close(render_octree(octree, cameras(2), LENS, (SIZE, SIZE + 5)).colour, whole)


def test_rectangular_pictures_are_parts_of_square_ones():
    octree = octree_of(NODES, field_parameters(NODES))
    square = render_octree(octree, cameras(1), LENS, 24)
    lens = LENS.clone()
    lens[1, 1] *= 24 / 10
    rectangle = render_octree(octree, cameras(1), lens, (10, 24))
    assert rectangle.colour.shape == (1, 10, 24, 3)
    torch.testing.assert_close(rectangle.colour, square.colour[:, 7:17])
    torch.testing.assert_close(rectangle.depth, square.depth[:, 7:17])


def test_gradients_of_solid_voxels_are_finite():
    octree = VoxelOctree(
        NODES, leaf_colours=torch.rand(len(NODES), 3), hidden_density=torch.full((len(NODES), 1), 1e3)
    )
    parameters = {"leaf_colours": octree.leaf_colours, "hidden_density": octree.hidden_density}
    _, gradients = draw_and_differentiate(octree, parameters, cameras(1), SIZE)
    assert gradients["leaf_colours"].abs().sum() > 0
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("make", [voxel_parameters, field_parameters])
def test_empty_octrees_show_the_background_and_have_no_gradient(make):
    nodes = OctreeNodes(torch.zeros(0, 3), torch.zeros(0, 1, dtype=torch.uint8), torch.tensor(OBJECT_AABB))
    values = make(nodes)
    picture, gradients = draw_and_differentiate(octree_of(nodes, values), values, cameras(2), SIZE)
    assert (picture.colour == torch.tensor([0.2, 0.5, 1.0])).all() and (picture.percent_depth == 0).all()
    assert all(len(gradient) == 0 for gradient in gradients.values())


def test_an_eye_inside_a_leaf_of_a_field_starts_there():
    inside = orbit_extrinsics(torch.zeros(1), torch.zeros(1), 0.25)  # a quarter towards the camera of FRONT
    density = math.log1p(math.exp(2.0))
    alpha = render_octree(plain_field(), inside, LENS, 1).alpha
    assert float(alpha) == pytest.approx(1 - math.exp(-0.75 * density), rel=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples >= 1 or offsets, one of the two, got samples 0"),
        ({"samples": 8, "offsets": torch.zeros(1, 4, 4)}, "got offsets too"),
        ({"offsets": torch.zeros(1, 4, 5)}, r"expected offsets \(1, 4, 4\).*got \(1, 4, 5\)"),
        ({"size": (4, 0)}, r"at least one pixel per edge, got size \(4, 0\)"),
        ({"ssaa": 0}, "expected ssaa >= 1"),
    ],
)
def test_bad_arguments_are_one_line(options, message):
    with pytest.raises(ValueError, match=f"render_octree: .*{message}") as error:
        render_octree(plain_field(), FRONT, LENS, **{"size": 4, **options})
    assert "\n" not in str(error.value)


def test_voxels_have_no_samples():
    octree = VoxelOctree(NODES, leaf_colours=torch.rand(len(NODES), 3))
    with pytest.raises(ValueError, match="closed form"):
        render_octree(octree, FRONT, LENS, 4, samples=8)


def test_leaves_that_are_too_small_to_be_ordered_are_refused():
    nodes = OctreeNodes(NODES.position, torch.full_like(NODES.depth, 11), NODES.aabb)
    with pytest.raises(ValueError, match="depth 0 to 10, got depth 11"):
        render_octree(VoxelOctree(nodes, leaf_colours=torch.zeros(len(nodes), 3)), FRONT, LENS, 4)
