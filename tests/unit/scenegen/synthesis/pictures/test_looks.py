"""Looks of training pictures: none by default, and each change where it belongs."""

from dataclasses import fields

import pytest
import torch

from scenegen.synthesis.pictures.development import develop
from scenegen.synthesis.pictures.looks import Draws, Looks
from scenegen.synthesis.pictures.mask_faults import faulty_masks
from scenegen.synthesis.pictures.object_paint import ObjectPaint
from scenegen.synthesis.pictures.patterns import SurfaceStyle, surface_colours
from scenegen.synthesis.pictures.room_paint import RoomPaint
from scenegen.synthesis.pictures.scene_light import SceneLight
from scenegen.synthesis.pictures.scene_paint import ScenePaint

SCENES = 6
SIZE = 64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def scene():
    """Six rooms with one wall at z = -2, a ceiling at 2.5 m and objects about the origin."""
    return {
        "wall_normal": torch.tensor([[0.0, 0, 1], [0, 0, 0]]).expand(SCENES, 2, 3),
        "wall_point": torch.tensor([[0.0, 0, -2], [0, 0, 0]]).expand(SCENES, 2, 3),
        "wall_colour": torch.full((SCENES, 3), 0.8),
        "floor_colour": torch.full((SCENES, 3), 0.5),
        "ceiling": torch.full((SCENES,), 2.5),
        "yaw": torch.zeros(SCENES, 2),
        "low": torch.tensor([-1.0, 0, -1]).expand(SCENES, 3),
        "high": torch.tensor([1.0, 1, 1]).expand(SCENES, 3),
        "eye": torch.tensor([0.0, 1, 4]).expand(SCENES, 3),
        "sun_direction": torch.tensor([0.36, 0.8, 0.48]).expand(SCENES, 3),
    }


def on_wall():
    """Places (SCENES, SIZE, SIZE, 3) on the wall, 4 m by 2.4 m, and their plane and normal."""
    x = torch.linspace(-2, 2, SIZE).expand(SIZE, SIZE)
    y = torch.linspace(2.4, 0.01, SIZE)[:, None].expand(SIZE, SIZE)
    points = torch.stack([x, y, torch.full_like(x, -2.0)], -1).expand(SCENES, SIZE, SIZE, 3)
    return points, torch.ones(points.shape[:3], dtype=torch.long), torch.tensor([0.0, 0, 1]).expand_as(points)


def test_by_default_nothing_is_drawn(scene):
    source = generator()
    state = source.get_state()
    assert ScenePaint.draw(scene, 12, Looks(), source) == ScenePaint()
    assert torch.equal(source.get_state(), state)
    colour = torch.rand(2, 16, 16, 3)
    plain = develop(colour, generator(3))
    assert torch.equal(plain, develop(colour, generator(3), photo=0.0))


@pytest.mark.parametrize("name", [field.name for field in fields(Looks)])
def test_a_part_is_between_none_and_all(name):
    with pytest.raises(ValueError, match=rf"{name}: expected 0 to 1, got 1\.5"):
        Looks(**{name: 1.5})


def test_draws_lie_in_their_ranges():
    draws = Draws(4000, generator())
    assert draws.uniform(2.0, 3.0, 2).shape == (4000, 2)
    powers = draws.powers(0.1, 10.0)
    assert powers.min() >= 0.1 and powers.max() <= 10 and powers.median() == pytest.approx(1.0, rel=0.2)
    assert draws.happens(0.25).float().mean() == pytest.approx(0.25, abs=0.03)
    assert draws.choice(3).unique().tolist() == [0, 1, 2]
    colours = draws.colours((0.5, 0.5), (0.8, 0.8))
    torch.testing.assert_close(colours.amax(-1), torch.full((4000,), 0.8))
    torch.testing.assert_close(colours.amin(-1), torch.full((4000,), 0.4))


def test_tiles_repeat_and_have_joints():
    numbers = {name: torch.tensor(0.0) for name in (field.name for field in fields(SurfaceStyle))}
    numbers |= {"first": torch.tensor([1.0, 0.5, 0.2]), "second": torch.zeros(3)}
    numbers |= {"width": torch.tensor(0.5), "height": torch.tensor(0.5), "joint": torch.tensor(0.02)}
    numbers |= {"joint_shade": torch.tensor(0.3), "checks": torch.tensor(1.0)}
    u = torch.tensor([0.25, 0.75, 1.25, 0.001])
    colours = surface_colours(u, torch.full_like(u, 0.25), SurfaceStyle(**numbers))
    torch.testing.assert_close(colours[0], numbers["first"])
    torch.testing.assert_close(colours[1], numbers["second"])  # the other colour of the chessboard
    torch.testing.assert_close(colours[2], colours[0])
    torch.testing.assert_close(colours[3], 0.3 * numbers["first"])


def test_painted_rooms_differ_and_plain_ones_keep_their_colours(scene):
    points, plane, normal = on_wall()
    plain = torch.full_like(points, 0.8)
    painted = RoomPaint.draw(scene, 1.0, generator(1)).colours(points, plane, normal, plain)
    assert painted.isfinite().all() and (painted >= 0).all()
    assert len({tuple(room.mean((0, 1)).tolist()) for room in painted}) == SCENES
    assert (painted.flatten(1, 2).std(1).amax(-1) > 0.01).any()
    paint = RoomPaint.draw(scene, 0.5, generator(1))
    colours = paint.colours(points, plane, normal, plain)
    assert 0 < paint.painted.sum() < SCENES
    assert torch.equal(colours[~paint.painted], plain[~paint.painted])
    beyond = paint.colours(points, torch.full_like(plane, -1), normal, plain)
    assert torch.equal(beyond, plain)


def test_patterns_are_painted_on_some_objects_only():
    paint = ObjectPaint.draw(400, Looks(patterns=0.5), generator())
    local = torch.rand(400, 50, 3, generator=generator(1)) - 0.5
    number = torch.arange(400)[:, None].expand(400, 50)
    plain = torch.full((400, 50, 3), 0.5)
    changed = (paint.colours(local, number, plain) - plain).abs().amax((1, 2)) > 1e-4
    assert 0.3 < changed.float().mean() < 0.6
    assert not changed[paint.opacity == 0].any()
    assert (paint.gloss == 0).all()


def test_highlights_are_where_the_sun_is_mirrored():
    paint = ObjectPaint.draw(1, Looks(gloss=1.0), generator())
    number, normal = torch.zeros(2, dtype=torch.long), torch.tensor([0.0, 1.0, 0.0]).expand(2, 3)
    sun = torch.tensor([0.6, 0.8, 0.0]).expand(2, 3)
    rays = torch.tensor([[0.6, -0.8, 0.0], [-0.8, -0.6, 0.0]])  # along the mirrored sun, and another
    shine = paint.highlights(normal, rays, sun, number)
    assert shine[0] == pytest.approx(float(paint.gloss[0])) and shine[1] < shine[0]


def test_unchanged_light_is_the_plain_one(scene):
    points, _, _ = on_wall()
    sky, sunlight = torch.full(points.shape[:3], 0.6), torch.full(points.shape[:3], 0.3)
    lit = (points[..., 0] > 0).float()
    light = SceneLight.draw(scene, 0.0, generator()).received(points, scene, sky, sunlight, lit)
    torch.testing.assert_close(light, (sky + sunlight * lit)[..., None].expand_as(points))


def test_changed_light_has_the_exposure_and_is_darker_in_corners(scene):
    points, _, _ = on_wall()
    sky, dark = torch.full(points.shape[:3], 0.6), torch.zeros(points.shape[:3])
    paint = SceneLight.draw(scene, 1.0, generator(4))
    light = paint.received(points, scene, sky, dark, dark)
    torch.testing.assert_close(light.mean((1, 2, 3)), paint.exposure)
    without_lamp = paint.glow.amax(-1) == 0
    assert without_lamp.any()
    middle, foot = light[without_lamp][:, SIZE // 2].mean((1, 2)), light[without_lamp][:, -1].mean((1, 2))
    assert (foot < middle).all()


def test_photos_stay_in_range_and_blocks_remove_detail():
    colour = torch.rand(8, 52, 52, 3, generator=generator(5))
    photo = develop(colour, generator(6), photo=1.0)
    assert photo.shape == (8, 3, 52, 52) and photo.min() >= 0 and photo.max() <= 1
    assert not torch.allclose(photo, develop(colour, generator(6)))


def test_faulty_masks_stay_near_the_true_ones():
    steps = torch.arange(96)
    masks = torch.stack([
        ((steps - 48).square()[:, None] + (steps - 48).square()) < radius**2 for radius in range(10, 42)
    ])  # fmt: skip
    source = generator(7)
    assert torch.equal(faulty_masks(masks, 0.0, source), masks)
    faulty = faulty_masks(masks, 1.0, generator(8))
    share = (faulty & masks).sum((1, 2)) / (faulty | masks).sum((1, 2))
    assert faulty.dtype == torch.bool and share.min() > 0.2
    assert (share < 0.98).float().mean() > 0.7
    larger = faulty.sum((1, 2)) > masks.sum((1, 2))
    assert 0 < larger.sum() < len(masks)


def test_a_mask_of_one_pixel_is_kept():
    masks = torch.zeros(3, 40, 40, dtype=torch.bool)
    masks[:, 7, 9] = True
    assert torch.equal(faulty_masks(masks, 1.0, generator()), masks)
    nothing = torch.zeros(2, 40, 40, dtype=torch.bool)
    assert torch.equal(faulty_masks(nothing, 1.0, generator()), nothing)
