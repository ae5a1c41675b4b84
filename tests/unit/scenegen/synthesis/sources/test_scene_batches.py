"""Batches: a function of the step, poses and object points that agree with the scenes they come from."""

import itertools

import numpy as np
import pytest
import torch

from scenegen.geometry import place_yup, relative_pose, world_pose
from scenegen.synthesis.layouts.layout_arrays import LayoutBatches
from scenegen.synthesis.layouts.options import ComposerOptions
from scenegen.synthesis.layouts.scene_layout import (
    Camera,
    Lighting,
    PlacedObject,
    Room,
    SceneLayout,
    query_poses,
)
from scenegen.synthesis.pictures.crops import CROP_MARGIN, mask_boxes
from scenegen.synthesis.pictures.looks import Looks
from scenegen.synthesis.shapes.shape_bank import ShapeBank
from scenegen.synthesis.sources.scene_batches import SceneLatentSource, ScenePairSource, SceneSource
from scenegen.synthesis.sources.scene_studio import SceneStudio
from scenegen.synthesis.sources.shape_pool import ShapePool, ShapeSource, SourceConfig
from trellis_modules.renderers.cameras import project

CPU = torch.device("cpu")
SMALL = {
    "shapes": 12,
    "objects_per_step": 6,
    "object_counts": (0.0, 0.0, 1.0),
    "render_size": 96,
    "image_size": 96,
    "patch_grid": 8,
    "resolution": 8,
    "surface_samples": 500,
}


class CountingEncoder:
    """Encodes a grid by its mean and remembers how many it saw at each call."""

    def __init__(self):
        self.calls = []

    def __call__(self, occupancy):
        self.calls.append(len(occupancy))
        return torch.nn.functional.avg_pool3d(occupancy, 4)


@pytest.fixture
def make_pool(furniture):
    def make(**changes):
        return ShapePool(ShapeBank(furniture, CPU), SourceConfig(**{**SMALL, **changes}), CPU)

    return make


def equal(left, right):
    return all(torch.equal(one, other) for one, other in zip(left.tensors(), right.tensors(), strict=True))


@pytest.fixture
def scenes(make_pool):
    """A batch, the arrays of the scenes it shows, and for each scene the order its objects were given."""
    pool = make_pool()
    studio = SceneStudio(pool)
    batch, shapes = SceneSource(pool).batch(0), studio.shoot(0, studio.generator(0)).shape
    arrays = LayoutBatches(pool.at(0)[1].infos, pool.config.objects_per_step, pool.config.object_counts, 0)[0]
    orders = [found_order(arrays, batch, shapes, row) for row in range(len(arrays["shape"]))]
    return batch, arrays, orders


def found_order(arrays, batch, shapes, row):
    """The order of a scene's objects in which their poses are those of the batch."""
    for order in itertools.permutations(range(arrays["shape"].shape[1])):
        same_shapes = arrays["shape"][row, list(order)].tolist() == shapes[row].tolist()
        if same_shapes and np.allclose(query_poses(layout(arrays, row, order)), batch.poses[row], atol=1e-4):
            return order
    return None


def layout(arrays, row, order):
    """The scene ``row`` with its objects in ``order``; camera, light and room do not matter for poses."""
    columns = [arrays[name][row, list(order)] for name in ("shape", "centre", "yaw", "size")]
    return SceneLayout(
        scene_id=str(row),
        objects=tuple(
            PlacedObject(str(shape), tuple(centre), float(yaw), float(size))
            for shape, centre, yaw, size in zip(*columns, strict=True)
        ),
        camera=Camera((0.0, 1.0, 3.0), (0.0, 0.0, 0.0), 50.0),
        lighting=Lighting((0.0, 1.0, 0.0), 0.5, 0.5),
        room=Room((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    )


def latent_source(pool):
    return SceneLatentSource(pool, CountingEncoder())


@pytest.mark.parametrize("refresh_steps", [1 << 30, 2])
@pytest.mark.parametrize("make_source", [SceneSource, ScenePairSource, latent_source])
def test_a_batch_depends_on_its_step_alone(make_pool, make_source, refresh_steps):
    changes = {"refresh_steps": refresh_steps, "object_counts": (0.0, 1.0, 1.0)}
    whole, resumed = make_source(make_pool(**changes)), make_source(make_pool(**changes))
    batches = [whole.batch(step) for step in range(4)]
    assert equal(resumed.batch(2), batches[2]) and equal(resumed.batch(3), batches[3])
    assert not equal(batches[0], batches[1])
    assert equal(whole.batch(1), batches[1])  # a step back is a step like any other


WIDE = {
    "layouts": ComposerOptions(
        low_probability=0.5, wide_probability=0.5, cut_probability=0.3, closed_room_probability=0.5
    ),
    "looks": Looks(room=0.8, light=0.8, patterns=0.5, gloss=0.5, photo=0.8, faulty_masks=0.6),
}


@pytest.mark.parametrize("make_source", [SceneSource, ScenePairSource])
def test_batches_with_looks_depend_on_their_step_alone(make_pool, make_source):
    whole, resumed = make_source(make_pool(**WIDE)), make_source(make_pool(**WIDE))
    batches = [whole.batch(step) for step in range(3)]
    assert equal(resumed.batch(2), batches[2]) and not equal(batches[0], batches[1])
    assert all(tensor.isfinite().all() or tensor.shape[-1] == 96 for tensor in batches[0].tensors())


def test_objects_without_masks_are_seen_and_told_of_nowhere(make_pool):
    pool = make_pool(unmasked_counts=(0.0, 0.0, 1.0))
    studio = SceneStudio(pool)
    shot = studio.shoot(0, studio.generator(0))
    assert shot.layout["shape"].shape == (2, 5) and shot.order.shape == (2, 3)
    batch = SceneSource(pool).batch(0)
    assert batch.poses.shape == (2, 3, 8) and len(batch.asset_image) == 6
    of_masks = torch.zeros_like(shot.picture.object, dtype=torch.bool)
    for row, masks in enumerate(shot.masks.unflatten(0, (2, 3))):
        of_masks[row] = masks.any(0)
    assert ((shot.picture.object >= 0) & ~of_masks).any()  # something without a mask is in the picture
    for row in range(2):
        for place, number in enumerate(shot.number[row]):
            assert torch.equal(
                shot.masks.unflatten(0, (2, 3))[row, place], shot.picture.object[row] == number
            )


def test_looks_change_the_pictures_and_leave_the_places(make_pool):
    looks = Looks(room=1.0, light=1.0, photo=1.0, patterns=1.0)
    plain, painted = SceneSource(make_pool()).batch(0), SceneSource(make_pool(looks=looks)).batch(0)
    assert not torch.allclose(plain.picture.image, painted.picture.image, atol=0.05)
    for name in ("depth", "extrinsics", "focal"):
        assert torch.equal(getattr(plain.picture, name), getattr(painted.picture, name)), name
    areas = [batch.mask_image.sum((1, 2, 3)).view(2, 3).sort().values for batch in (plain, painted)]
    assert torch.equal(*areas)  # the order of the objects is drawn anew


def test_faulty_masks_say_nothing_of_points_that_are_not_the_objects(make_pool):
    pool = make_pool(looks=Looks(faulty_masks=1.0), objects_per_step=12)
    studio = SceneStudio(pool)
    shot = studio.shoot(0, studio.generator(0))
    assert not torch.equal(shot.masks, shot.seen)
    points, share = shot.object_points(8).split((3, 1), dim=1)
    mean = points / share.clamp(min=1e-6)
    assert mean.where(share > 1e-3, 0).abs().max() <= 0.5 + 1e-3
    batch = shot.scene_batch(96, 8)
    assert torch.equal(batch.mask_image[:, 0] > 0.5, shot.masks)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("repeat", [1, 2])
def test_slots_are_the_same_whichever_process_makes_them(make_pool, repeat, workers):
    changes = {"repeat": repeat, "refresh_steps": 3, "object_counts": (0.0, 1.0, 1.0)}
    alone = SceneSource(make_pool(**changes))
    first, second = (SceneSource(make_pool(**changes, workers=workers)) for _ in range(2))
    seen = []
    for step in range(3):
        batches = [alone.batch(step, slot, 2) for slot in range(2)]
        assert equal(first.batch(step, 0, 2), batches[0]) and equal(second.batch(step, 1, 2), batches[1])
        seen += [batch.picture.image for batch in batches]
    different = [image for number, image in enumerate(seen) if number // 2 % repeat == 0]
    assert not any(
        one.shape == other.shape and torch.equal(one, other)
        for one, other in itertools.combinations(different, 2)
    )
    assert (seen[2] is seen[0]) == (seen[3] is seen[1]) == (repeat == 2)


def test_shapes_and_ranges_are_those_documented(make_pool):
    batch = latent_source(make_pool(image_size=48)).batch(0)
    pictures = {
        "scene": (2, batch.picture.image),
        "asset": (6, batch.asset_image),
        "mask": (6, batch.mask_image),
    }
    for name, (count, picture) in pictures.items():
        assert picture.shape == (count, 3, 48, 48) and 0 <= picture.min() < picture.max() <= 1, name
    shapes = {
        "poses": (2, 3, 8), "world_poses": (2, 3, 8), "visible": (2, 3), "object_points": (6, 4, 8, 8),
        "x_0": (2, 3, 1, 2, 2, 2),
    }  # fmt: skip
    assert {name: tuple(getattr(batch, name).shape) for name in shapes} == shapes
    shapes = {"depth": (2, 48, 48), "extrinsics": (2, 4, 4), "focal": (2,)}
    assert {name: tuple(getattr(batch.picture, name).shape) for name in shapes} == shapes


def test_poses_are_those_of_the_scene_in_the_frame_of_the_query(scenes):
    batch, _, orders = scenes
    assert None not in orders
    torch.testing.assert_close(batch.poses[:, 0], torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1]).expand(2, 8))
    world = batch.world_poses
    torch.testing.assert_close(relative_pose(world, world[:, :1]), batch.poses)
    _, arrays, _ = scenes
    for row, order in enumerate(orders):
        np.testing.assert_allclose(world[row, :, :3], arrays["centre"][row, list(order)], rtol=1e-6)


def test_object_points_lie_in_the_unit_box_and_are_seen_in_their_patch(scenes):
    batch, arrays, orders = scenes
    points, share = batch.object_points.split((3, 1), dim=1)
    assert share.min() >= 0 and share.max() == 1
    mean = points / share.clamp(min=1e-6)  # (B, 3, G, G)
    assert mean.where(share > 1e-3, 0).abs().max() <= 0.5 + 1e-3
    order = torch.tensor(orders)
    pose = world_pose(*(torch.from_numpy(arrays[name]) for name in ("centre", "yaw", "size")))
    pose = pose.gather(1, order[..., None].expand(-1, -1, 8)).flatten(0, 1)
    world = place_yup(mean.flatten(2).mT, pose)
    scene = torch.arange(2).repeat_interleave(3)
    size = SMALL["image_size"]
    seen = project(world, batch.picture.extrinsics[scene], batch.picture.focal[scene], size)
    expected = patch_centres(batch.mask_image[:, 0] > 0.5)
    full = (share > 0.95).flatten(1) & batch.visible.flatten()[:, None]
    assert full.sum() > 20
    distance = (seen[..., :2] - expected).norm(dim=-1)[full]
    assert distance.median() < 1.5 and distance.max() < 4
    depth = batch.picture.depth[
        scene[:, None], seen[..., 1].long().clamp(0, 95), seen[..., 0].long().clamp(0, 95)
    ]
    assert ((depth - seen[..., 2]).abs()[full] < 0.1).float().mean() > 0.8


def patch_centres(masks):
    """(B, G * G, 2) pixels x, y at the middle of the patches of the masks' crops."""
    boxes = mask_boxes(masks) + 0.5
    centre, side = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]).amax(1) * CROP_MARGIN
    steps = (torch.arange(SMALL["patch_grid"]) + 0.5) / SMALL["patch_grid"] - 0.5
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return centre[:, None] + torch.stack([x, y], -1).flatten(0, 1) * side[:, None, None]


def test_the_query_is_mostly_the_largest_mask(make_pool):
    source = SceneSource(make_pool(objects_per_step=30))
    batch = source.batch(0)
    areas = batch.mask_image[:, 0].sum((1, 2)).view(-1, 3)
    is_largest = areas.argmax(1) == 0
    assert is_largest.float().mean() >= 0.5
    assert batch.visible[:, 0].float().mean() >= 0.9
    torch.testing.assert_close(batch.visible, areas >= 150)


def test_a_second_view_leaves_the_first_as_it_is(make_pool):
    single, pair = SceneSource(make_pool()).batch(0), ScenePairSource(make_pool()).batch(0)
    for name, value in vars(single.picture).items():
        assert torch.equal(value, getattr(pair.first, name)), name
    assert not torch.allclose(pair.first.extrinsics, pair.second.extrinsics, atol=0.01)
    assert torch.equal(pair.first.focal, pair.second.focal)
    assert pair.second.image.shape == pair.first.image.shape


def test_repeated_steps_share_their_pictures(make_pool):
    source = SceneSource(make_pool(repeat=2))
    first = source.batch(0)
    assert source.batch(1) is first
    assert not torch.equal(source.batch(2).picture.image, first.picture.image)
    assert equal(SceneSource(make_pool()).batch(1), source.batch(3))


def test_all_shapes_are_encoded_once_a_pool(make_pool):
    encode = CountingEncoder()
    pool = make_pool(refresh_steps=2)
    source, studio = SceneLatentSource(pool, encode), SceneStudio(pool)
    latents = [source.batch(step).x_0.flatten(0, 1) for step in range(2)]
    shapes = [studio.shoot(step, studio.generator(step)).shape.flatten() for step in range(2)]
    source.batch(2), source.batch(3)
    assert encode.calls == [SMALL["shapes"]] * 2
    first, second = (shapes[0][:, None] == shapes[1]).nonzero().T
    assert len(first) and torch.equal(latents[0][first], latents[1][second])


def test_shape_batches_depend_on_their_step_alone(make_pool):
    source = ShapeSource(make_pool(refresh_steps=2))
    batches = [source.batch(step).occupancy for step in range(3)]
    assert batches[0].shape == (6, 1, 8, 8, 8) and batches[0].dtype == torch.bool
    assert batches[0].flatten(1).any(1).all()
    assert torch.equal(ShapeSource(make_pool(refresh_steps=2)).batch(2).occupancy, batches[2])
    assert not torch.equal(batches[0], batches[1])
    assert torch.equal(source.batch(1, 0, 2).occupancy, batches[2])  # the third batch of a run
