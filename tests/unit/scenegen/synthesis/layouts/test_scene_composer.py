"""Scene composer: collisions, camera, symmetric yaws, supports, determinism."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from scenegen.synthesis.layouts.options import ComposerOptions
from scenegen.synthesis.layouts.pool import ModelPool
from scenegen.synthesis.layouts.scene_composer import CompositionError, compose, symmetric_yaw
from scenegen.synthesis.layouts.scene_layout import SceneLayout, yaw_matrix


@dataclass(frozen=True)
class Model:
    id: str
    super_category: str
    size_m: tuple[float, float, float]
    symmetry: int = 1
    tier: str = "floor"


MODELS = [
    Model("chair", "Chair", (0.5, 0.95, 0.55)),
    Model("stool", "Pier/Stool", (0.4, 0.5, 0.4), symmetry=0),
    Model("sofa", "Sofa", (2.0, 0.8, 0.9)),
    Model("dining_table", "Table", (1.6, 0.75, 0.9), symmetry=2),
    Model("round_table", "Table", (1.1, 0.74, 1.1), symmetry=0),
    Model("square_table", "Table", (0.8, 0.45, 0.8), symmetry=4),
    Model("bed", "Bed", (1.6, 0.9, 2.1)),
    Model("night_stand", "Cabinet/Shelf/Desk", (0.45, 0.5, 0.4)),
    Model("desk", "Cabinet/Shelf/Desk", (1.4, 0.75, 0.7)),
    Model("wardrobe", "Cabinet/Shelf/Desk", (1.2, 2.1, 0.6)),
    Model("lamp", "Lighting", (0.3, 0.5, 0.3), symmetry=0),
    Model("laptop", "Electronics", (0.35, 0.25, 0.3), tier="small"),
    Model("vase", "Plant/vase/decor", (0.2, 0.35, 0.2), symmetry=0, tier="small"),
]
BY_ID = {model.id: model for model in MODELS}
LAYOUTS = [compose(np.random.default_rng(seed), ModelPool(MODELS), 2 + seed % 6) for seed in range(50)]


def surface_points(placed, steps: int = 9) -> np.ndarray:
    """World points filling the object's box, or its cylinder when it is round."""
    model = BY_ID[placed.model_id]
    line = np.linspace(-0.5, 0.5, steps)
    unit = np.stack(np.meshgrid(line, line, line), axis=-1).reshape(-1, 3)
    if model.symmetry == 0:
        unit = unit[np.hypot(unit[:, 0], unit[:, 2]) <= 0.5]
    return unit * model.size_m @ yaw_matrix(placed.yaw).T + placed.centre


def inside(points: np.ndarray, placed, margin: float) -> np.ndarray:
    model = BY_ID[placed.model_id]
    local = (points - placed.centre) @ yaw_matrix(placed.yaw)
    limits = np.asarray(model.size_m) / 2 - margin
    in_height = np.abs(local[:, 1]) < limits[1]
    if model.symmetry == 0:
        return in_height & (np.hypot(local[:, 0], local[:, 2]) < limits[0])
    return in_height & (np.abs(local[:, 0]) < limits[0]) & (np.abs(local[:, 2]) < limits[2])


def project(layout: SceneLayout, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    extrinsics = layout.camera.extrinsics()
    seen = points @ extrinsics[:3, :3].T + extrinsics[:3, 3]
    image = seen @ layout.camera.intrinsics().T
    return image[:, :2] / image[:, 2:], seen[:, 2]


def test_objects_do_not_intersect():
    for layout in LAYOUTS:
        for a in layout.objects:
            for b in layout.objects:
                if a is not b:
                    assert not inside(surface_points(a), b, margin=1e-3).any(), layout


def test_every_object_rests_on_the_floor_or_on_top_of_another():
    on_supports = 0
    for layout in LAYOUTS:
        tops = {}
        for placed in layout.objects:
            height = BY_ID[placed.model_id].size_m[1]
            tops[placed] = placed.centre[1] + height / 2
        for placed in layout.objects:
            bottom = placed.centre[1] - BY_ID[placed.model_id].size_m[1] / 2
            if abs(bottom) < 1e-9:
                assert BY_ID[placed.model_id].tier == "floor"
                continue
            on_supports += 1
            support = [o for o in layout.objects if abs(tops[o] - bottom) < 1e-9]
            foot = np.array([[placed.centre[0], tops[o] - 0.1, placed.centre[2]] for o in support])
            assert any(inside(foot[i : i + 1], o, margin=0.0)[0] for i, o in enumerate(support))
    assert on_supports > 10


def test_every_object_is_in_view_of_a_camera_within_the_ranges():
    for layout in LAYOUTS:
        camera = layout.camera
        back = np.subtract(camera.position, camera.target)
        elevation = math.degrees(math.asin(back[1] / np.linalg.norm(back)))
        assert 5 <= elevation <= 50 and 30 <= camera.fov_deg <= 70
        for placed in layout.objects:
            image, depth = project(layout, surface_points(placed, steps=3))
            assert (depth > 0).all() and (image > 0).all() and (image < 1).all()


def test_the_group_fills_a_good_part_of_the_picture():
    spans = []
    for layout in LAYOUTS:
        image, _ = project(layout, np.concatenate([surface_points(placed, 3) for placed in layout.objects]))
        spans.append((image.max(axis=0) - image.min(axis=0)).max())
    assert min(spans) > 0.5 and np.mean(spans) > 0.7


def test_symmetric_models_face_the_camera_as_nearly_as_their_symmetry_allows():
    seen = set()
    for layout in LAYOUTS:
        for placed in layout.objects:
            symmetry = BY_ID[placed.model_id].symmetry
            direction = np.subtract(layout.camera.position, placed.centre)
            off = math.remainder(placed.yaw - math.atan2(direction[0], direction[2]), math.tau)
            limit = 1e-9 if symmetry == 0 else math.pi / symmetry + 1e-9
            assert abs(off) <= limit
            seen.add(symmetry)
    assert seen == {0, 1, 2, 4}


def test_symmetric_yaw_only_moves_by_the_symmetry_step():
    for yaw in np.linspace(-7, 7, 29):
        chosen = symmetric_yaw(yaw, 4, (1.0, 0.5, -2.0), (3.0, 1.0, 1.0))
        assert abs(math.remainder(chosen - yaw, math.pi / 2)) < 1e-9
        unsymmetric = symmetric_yaw(yaw, 1, (1.0, 0.5, -2.0), (3.0, 1.0, 1.0))
        assert abs(math.remainder(unsymmetric - yaw, math.tau)) < 1e-9


def test_chairs_at_a_table_face_it():
    faced = 0
    for seed in range(40):
        layout = compose(np.random.default_rng(seed), [BY_ID["chair"], BY_ID["dining_table"]], 4)
        if layout.objects[0].model_id != "dining_table":
            continue
        for chair in (placed for placed in layout.objects[1:] if placed.model_id == "chair"):
            to_table = np.subtract(layout.objects[0].centre, chair.centre)[[0, 2]]
            front = np.array([math.sin(chair.yaw), math.cos(chair.yaw)])
            faced += float(front @ to_table) > 0.6 * np.linalg.norm(to_table)
    assert faced > 20


def test_walls_stand_behind_all_objects_and_in_front_of_the_camera():
    walls = 0
    for layout in LAYOUTS:
        assert len(layout.room.walls) <= 2
        points = np.concatenate([surface_points(placed, 3) for placed in layout.objects])
        for wall in layout.room.walls:
            walls += 1
            assert ((points - wall.point) @ wall.normal > 0).all()
            assert np.subtract(layout.camera.position, wall.point) @ wall.normal > 0
    assert walls > 20


def test_the_seed_fixes_the_scene_and_the_count_is_kept():
    pool = ModelPool(MODELS)
    for count in range(1, 8):
        first = compose(np.random.default_rng(count), pool, count, scene_id="a")
        assert first == compose(np.random.default_rng(count), pool, count, scene_id="a")
        assert len(first.objects) == count


def test_augmentation_changes_sizes_within_the_jitter_and_keeps_round_things_round():
    options = ComposerOptions(scale_jitter=0.2, stretch_jitter=0.3, mirror_probability=0.5)
    mirrored = 0
    for seed in range(20):
        for placed in compose(np.random.default_rng(seed), MODELS, 4, options).objects:
            model = BY_ID[placed.model_id]
            assert all(1 / 1.3 <= factor <= 1.3 for factor in placed.stretch)
            assert model.symmetry in (1, 2) or placed.stretch[0] == placed.stretch[2]
            stretched = max(np.multiply(placed.stretch, model.size_m))
            assert 1 / 1.2 <= placed.size_m / stretched <= 1.2
            mirrored += placed.mirror
    assert 20 <= mirrored <= 60


def test_bad_requests_are_named():
    with pytest.raises(ValueError, match="num_objects must be at least 1, got 0"):
        compose(np.random.default_rng(0), MODELS, 0)
    with pytest.raises(ValueError, match="stand on the floor"):
        compose(np.random.default_rng(0), [BY_ID["vase"]], 2)
    with pytest.raises(CompositionError, match="3 objects in 2 tries"):
        compose(np.random.default_rng(0), MODELS, 3, ComposerOptions(min_extent=2.0, max_attempts=2))
