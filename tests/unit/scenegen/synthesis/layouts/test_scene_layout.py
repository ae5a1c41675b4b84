"""Scene layouts: frames, poses, JSON and hash."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from scenegen.geometry import place_yup
from scenegen.synthesis.layouts.scene_layout import (
    Camera,
    Lighting,
    PlacedObject,
    Room,
    SceneLayout,
    Wall,
    augment_vertices,
    layouts_sha256,
    query_poses,
    world_poses,
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


def test_world_poses_scale_turn_and_move_an_object(layout):
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    poses = world_poses(layout)
    assert poses.shape == (3, 8) and poses.dtype == torch.float64
    for pose, placed in zip(poses, layout.objects):
        expected = placed.size_m * points @ yaw_matrix(placed.yaw).T + placed.centre
        np.testing.assert_allclose(place_yup(torch.as_tensor(points), pose), expected, atol=1e-12)


def test_query_poses_map_points_as_going_through_the_world(layout):
    points = torch.as_tensor(np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3)))
    poses = query_poses(layout)
    assert poses.shape == (3, 8) and poses.dtype == torch.float32
    assert poses[0].tolist() == [0, 0, 0, 1, 0, 0, 0, 1]
    assert (poses[:, 3] >= 0).all()
    query, *_ = world_poses(layout)
    for pose, world in zip(poses.double(), world_poses(layout)):
        back_in_world = place_yup(place_yup(points, pose), query)
        torch.testing.assert_close(back_in_world, place_yup(points, world), rtol=0, atol=3e-6)


def test_query_poses_have_no_minus_zero(layout):
    turned = replace(layout.objects[1], yaw=layout.objects[0].yaw - 1.5 * math.pi)
    poses = query_poses(replace(layout, objects=(layout.objects[0], turned)))
    assert not torch.signbit(poses[poses == 0]).any()


def test_camera_looks_at_its_target_with_the_world_up_in_the_image(layout):
    extrinsics = layout.camera.extrinsics()
    seen_target = extrinsics @ [*layout.camera.target, 1.0]
    assert np.allclose(seen_target[:2], 0) and seen_target[2] > 0
    above = extrinsics @ np.add([*layout.camera.target, 1.0], [0.0, 0.3, 0.0, 0.0])
    assert above[1] < 0 and np.isclose(above[0], 0)
    assert np.isclose(np.linalg.det(extrinsics[:3, :3]), 1.0)
    edge = layout.camera.intrinsics() @ [math.tan(math.radians(22.5)), 0.0, 1.0]
    np.testing.assert_allclose(edge, [1.0, 0.5, 1.0], atol=1e-12)


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
