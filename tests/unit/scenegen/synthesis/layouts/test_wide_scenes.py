"""What the probabilities of the composer's options add to scenes, each alone."""

import math
from dataclasses import replace

import numpy as np
import pytest

from scenegen.geometry import CONTINUOUS_SYMMETRY
from scenegen.synthesis.furniture.records import ModelInfo
from scenegen.synthesis.layouts.camera import NEAREST_WALL_M
from scenegen.synthesis.layouts.options import ComposerOptions
from scenegen.synthesis.layouts.pool import ModelPool
from scenegen.synthesis.layouts.scene_composer import compose
from scenegen.synthesis.layouts.scene_layout import SceneLayout, cross, layouts_sha256, yaw_matrix
from scenegen.synthesis.layouts.scene_list import rounded

LAMP = ModelInfo(
    "x/lamp", "Pendant lamp", "Lighting", "mounted", "train", (0.4, 0.7, 0.4), CONTINUOUS_SYMMETRY
)
PICTURE = ModelInfo("x/picture", "Picture", "Other small", "mounted", "train", (0.6, 0.4, 0.03))
CLOTHES = ModelInfo("x/clothes", "Hanging clothes", "Other small", "mounted", "train", (0.5, 1.0, 0.1))
SIZES = {info.id: info.size_m for info in (LAMP, PICTURE, CLOTHES)}


@pytest.fixture(scope="module")
def draw(furniture):
    """Function (options) -> scenes of three objects, of models on the floor, a lamp and a picture."""
    pool = ModelPool([*furniture.infos, LAMP, PICTURE])

    def make(count: int = 12, **options) -> list[SceneLayout]:
        return [
            compose(np.random.default_rng([5, number]), pool, 3, ComposerOptions(**options))
            for number in range(count)
        ]

    return make


def elevation_deg(layout: SceneLayout) -> float:
    """How far the camera looks down."""
    down = np.subtract(layout.camera.position, layout.camera.target)
    return math.degrees(math.asin(down[1] / np.linalg.norm(down)))


def picture_places(layout: SceneLayout, sizes: dict) -> np.ndarray:
    """Corners (N, 8, 2) of the boxes in the picture, which is [-1, 1] on both axes, y down."""
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    places = []
    extrinsics = layout.camera.extrinsics()
    for placed in layout.objects:
        size = np.multiply(sizes[placed.model_id], placed.size_m / max(sizes[placed.model_id]))
        world = (signs * size) @ yaw_matrix(placed.yaw).T + placed.centre
        seen = world @ extrinsics[:3, :3].T + extrinsics[:3, 3]
        places.append(seen[:, :2] / seen[:, 2:] / math.tan(math.radians(layout.camera.fov_deg) / 2))
    return np.array(places)


@pytest.fixture(scope="module")
def sizes(furniture):
    return {**SIZES, **{info.id: info.size_m for info in furniture.infos}}


def test_scenes_of_the_default_options_stay_as_they_were(furniture):
    pool = ModelPool(furniture.infos)
    layouts = [rounded(compose(np.random.default_rng(seed), pool, 2 + seed % 3)) for seed in range(6)]
    assert layouts_sha256(layouts) == "3abec4b1a550fbd7f46565ab599544990b34bc1dce466529a3225b728f57f203"


def test_cross_product_is_that_of_numpy():
    one, other = np.random.default_rng(0).normal(size=(2, 3))
    assert np.array_equal(cross(one, other), np.cross(one, other))


def test_low_cameras_look_nearly_level(draw):
    angles = [elevation_deg(layout) for layout in draw(low_probability=1.0, low_elevation_deg=(0.0, 6.0))]
    assert -0.01 <= min(angles) and max(angles) <= 6.01
    mixed = [elevation_deg(layout) for layout in draw(24, low_probability=0.5, low_elevation_deg=(0.0, 4.0))]
    assert 4 < sum(angle < 4.01 for angle in mixed) < 22


def test_wide_lenses_have_their_own_angles(draw):
    angles = [layout.camera.fov_deg for layout in draw(wide_probability=1.0)]
    assert 70 <= min(angles) < max(angles) <= 95


def test_small_groups_are_small_and_mostly_low_in_the_picture(draw, sizes):
    places = [
        picture_places(layout, sizes).reshape(-1, 2)
        for layout in draw(24, small_probability=1.0, small_fill=(0.3, 0.5))
    ]
    assert all(np.abs(place).max() <= 0.99 for place in places)
    assert np.mean([np.ptp(place, axis=0).max() for place in places]) < 1.1
    assert np.mean([place[:, 1].mean() for place in places]) > 0.1


def test_the_frame_cuts_objects_of_which_enough_stays(draw, sizes):
    places = [picture_places(layout, sizes) for layout in draw(cut_probability=1.0)]
    assert np.mean([np.abs(place).max() > 1 for place in places]) > 0.7
    for place in places:
        assert (np.abs(place).min(axis=1) < 1).all()  # some corner or side of each is in the picture


def test_hidden_objects_need_to_show_less(draw):
    with pytest.raises(ValueError, match="expected the lower number first"):
        ComposerOptions(hidden_visible_fraction=(0.5, 0.1))
    scenes = draw(hidden_probability=1.0, low_probability=1.0)
    others = draw(low_probability=1.0)
    assert scenes != others and len(scenes) == 12


def test_lamps_hang_from_the_ceiling_above_everything_that_stands(draw):
    for layout in draw(hanging_probability=1.0):
        lamps = [placed for placed in layout.objects if placed.model_id == LAMP.id]
        assert len(lamps) == 1
        top = lamps[0].centre[1] + lamps[0].size_m / 2
        assert top == pytest.approx(layout.room.ceiling_m, abs=0.01)
        assert layout.camera.position[1] < layout.room.ceiling_m


def test_things_on_a_wall_touch_it_and_face_the_room(draw):
    for layout in draw(mounted_probability=1.0):
        pictures = [placed for placed in layout.objects if placed.model_id == PICTURE.id]
        assert 1 <= len(pictures) <= 2
        for placed in pictures:
            facing = (math.sin(placed.yaw), 0.0, math.cos(placed.yaw))
            wall = next(wall for wall in layout.room.walls if np.allclose(wall.normal, facing, atol=1e-6))
            distance = np.dot(np.subtract(placed.centre, wall.point), wall.normal)
            assert distance == pytest.approx(PICTURE.size_m[2] / 2, abs=0.01)


def test_a_closed_room_stands_about_the_objects_and_the_camera(draw):
    layouts = draw(closed_room_probability=1.0)
    for layout in layouts:
        assert layout.room.ceiling_m is not None
        for wall in layout.room.walls:
            from_wall = np.dot(np.subtract(layout.camera.position, wall.point), wall.normal)
            assert from_wall >= NEAREST_WALL_M
            assert all(np.dot(np.subtract(o.centre, wall.point), wall.normal) > 0 for o in layout.objects)
        assert SceneLayout.from_json(layout.to_json()) == layout
    assert max(len(layout.room.walls) for layout in layouts) > 2


def test_what_hangs_on_a_wall_is_not_a_lamp_on_the_ceiling():
    pool = ModelPool([LAMP, PICTURE, CLOTHES, replace(PICTURE, id="x/chair", tier="floor")])
    assert pool.hanging == [LAMP] and pool.mounted == [PICTURE, CLOTHES]


def test_without_models_that_hang_scenes_have_none(furniture):
    options = ComposerOptions(hanging_probability=1.0, mounted_probability=1.0)
    layout = compose(np.random.default_rng(1), ModelPool(furniture.infos), 3, options)
    assert len(layout.objects) == 3 and layout.room.ceiling_m is None
