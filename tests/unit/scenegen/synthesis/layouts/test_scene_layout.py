"""Scene layouts: frames, poses, JSON and hash."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from scenegen.synthesis.layouts.scene_layout import (
    Camera,
    Lighting,
    PlacedObject,
    Room,
    SceneLayout,
    Wall,
    augment_vertices,
    camera_to_query,
    layouts_sha256,
    object_to_world,
    query_poses,
    yaw_matrix,
)


@pytest.fixture
def layout() -> SceneLayout:
    return SceneLayout(
        scene_id="s0001",
        objects=(
            PlacedObject("table", centre=(0.4, 0.37, -0.2), yaw=2.9, size_m=1.6),
            PlacedObject("chair", centre=(-0.5, 0.45, 0.7), yaw=-3.0, size_m=0.9, mirror=True),
            PlacedObject("cup", centre=(0.3, 0.8, -0.1), yaw=0.4, size_m=0.12, stretch=(1.1, 1.0, 0.9)),
        ),
        camera=Camera(position=(2.0, 1.5, 2.5), target=(0.1, 0.4, 0.0), fov_deg=45.0),
        lighting=Lighting(sun_direction=(0.0, 0.8, 0.6), sun_strength=0.5, ambient_strength=0.5),
        room=Room((0.5, 0.4, 0.3), (0.9, 0.9, 0.9), (Wall((0.0, 0.0, -2.0), (0.0, 0.0, 1.0)),)),
    )


def rotate(quaternion: np.ndarray, points: np.ndarray) -> np.ndarray:
    w, v = quaternion[0], quaternion[1:]
    return points + 2 * np.cross(v, np.cross(v, points) + w * points)


@pytest.mark.parametrize("query", [0, 1, 2])
def test_query_poses_map_points_as_going_through_the_world(layout, query):
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    world_to_query = np.linalg.inv(object_to_world(layout.objects[query]))
    poses = query_poses(layout, query)
    assert poses.shape == (3, 8) and poses.dtype == np.float32
    np.testing.assert_array_equal(poses[query], [0, 0, 0, 1, 0, 0, 0, 1])
    for pose, placed in zip(poses.astype(np.float64), layout.objects):
        world = placed.size_m * points @ yaw_matrix(placed.yaw).T + placed.centre
        expected = world @ world_to_query[:3, :3].T + world_to_query[:3, 3]
        np.testing.assert_allclose(pose[7] * rotate(pose[3:7], points) + pose[:3], expected, atol=3e-6)
        assert pose[3] >= 0 and math.isclose(np.linalg.norm(pose[3:7]), 1.0, abs_tol=1e-6)


def test_query_poses_names_a_wrong_index(layout):
    with pytest.raises(ValueError, match="query_index 3 outside 0..2"):
        query_poses(layout, 3)


def test_camera_looks_at_its_target_with_the_world_up_in_the_image(layout):
    extrinsics = layout.camera.extrinsics()
    seen_target = extrinsics @ [*layout.camera.target, 1.0]
    assert np.allclose(seen_target[:2], 0) and seen_target[2] > 0
    above = extrinsics @ np.add([*layout.camera.target, 1.0], [0.0, 0.3, 0.0, 0.0])
    assert above[1] < 0 and np.isclose(above[0], 0)
    assert np.isclose(np.linalg.det(extrinsics[:3, :3]), 1.0)
    edge = layout.camera.intrinsics() @ [math.tan(math.radians(22.5)), 0.0, 1.0]
    np.testing.assert_allclose(edge, [1.0, 0.5, 1.0], atol=1e-12)


def test_camera_to_query_takes_the_seen_query_centre_to_the_origin(layout):
    seen = layout.camera.extrinsics() @ [*layout.objects[1].centre, 1.0]
    np.testing.assert_allclose((camera_to_query(layout, 1) @ seen)[:3], 0.0, atol=1e-12)


def test_augmented_vertices_are_mirrored_stretched_and_normalised_again():
    vertices = np.float32([[-0.5, -0.25, -0.25], [0.3, 0.25, 0.25], [0.5, 0.0, 0.0]])
    placed = PlacedObject("m", (0, 0, 0), 0.0, 1.0, stretch=(1.0, 3.0, 1.0), mirror=True)
    expected = np.float32([[1, -1.5, -0.5], [-0.6, 1.5, 0.5], [-1, 0, 0]]) / 3
    np.testing.assert_allclose(augment_vertices(vertices, placed), expected, atol=1e-6)


def test_json_round_trip_keeps_every_value(layout):
    assert SceneLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_hash_sees_any_change_and_survives_a_round_trip(layout):
    changed = replace(layout, camera=replace(layout.camera, fov_deg=45.0000001))
    assert layouts_sha256([layout]) == layouts_sha256([SceneLayout.from_json(layout.to_json())])
    assert layouts_sha256([layout]) != layouts_sha256([changed])


def test_from_json_names_the_broken_scene(layout):
    raw = layout.to_json()
    del raw["camera"]["fov_deg"]
    with pytest.raises(ValueError, match="s0001"):
        SceneLayout.from_json(raw)


def test_reordered_moves_objects_and_refuses_anything_but_a_permutation(layout):
    assert [item.model_id for item in layout.reordered([2, 0, 1]).objects] == ["cup", "table", "chair"]
    with pytest.raises(ValueError, match="permutation"):
        layout.reordered([0, 0, 1])
