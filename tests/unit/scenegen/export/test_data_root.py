"""Scenes of a data root: files beside each other, in the frame of another object."""

import json

import numpy as np
import pytest
import torch
import trimesh

from scenegen.evaluation.loading import find_scene_files, load_poses, load_scene
from scenegen.export.data_root import scene_file, write_root_scene
from scenegen.export.frames import in_frame_of
from scenegen.export.scene_files import ExportError
from scenegen.geometry import place_yup, relative_pose
from scenegen.photo.camera import PhotoCamera, rotation_of
from scenegen.pipelines.result import GeneratedObject, SceneResult

POSES = torch.tensor([[0.0, 0, 0, 1, 0, 0, 0, 1], [1.2, 0.1, -0.4, 0.9238795, 0, 0.3826834, 0, 0.6]])


@pytest.fixture
def result():
    """Objects 3 and 1, in the frame of object 3."""
    extrinsics = np.eye(4)
    extrinsics[:3, :3] = rotation_of(np.deg2rad(25), np.deg2rad(20))
    extrinsics[:3, 3] = (-0.3, 0.1, 4.0)
    mesh = trimesh.creation.box((1.0, 0.5, 0.25))
    objects = tuple(
        GeneratedObject(number, pose, torch.zeros(2, 2, 2), mesh) for number, pose in zip((3, 1), POSES)
    )
    return SceneResult(objects, 3, PhotoCamera(extrinsics, focal=1.3, aspect=0.75))


def test_the_frame_is_that_of_the_object_and_the_photo_shows_the_same(result):
    moved = in_frame_of(result, 1)
    assert moved.query_id == 1
    torch.testing.assert_close(
        moved.objects[1].pose, torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1]), atol=1e-6, rtol=0
    )
    corners = torch.tensor(trimesh.creation.box((1.0, 0.5, 0.25)).vertices, dtype=torch.float32)
    for before, after in zip(result.objects, moved.objects):
        pixels = [
            scene.camera.project(place_yup(corners, item.pose).double().numpy())[0]
            for scene, item in ((result, before), (moved, after))
        ]
        np.testing.assert_allclose(*pixels, atol=1e-5)
    back = in_frame_of(moved, 3)
    torch.testing.assert_close(back.objects[1].pose, POSES[1], atol=1e-5, rtol=0)
    np.testing.assert_allclose(back.camera.extrinsics, result.camera.extrinsics, atol=1e-6)
    with pytest.raises(ValueError, match="got 9"):
        in_frame_of(result, 9)


def test_files_lie_beside_each_other_and_say_the_same(result, tmp_path):
    written = write_root_scene(in_frame_of(result, 1), tmp_path / "scene_test_x", "s1")
    assert written == [tmp_path / "scene_test_x" / "s1.glb", tmp_path / "scene_test_x" / "s1.json"]
    files = find_scene_files(tmp_path / "scene_test_x")["s1"]
    poses = load_poses(files.poses)
    assert poses.query == 1
    torch.testing.assert_close(
        relative_pose(poses.poses[3], poses.poses[1]),
        relative_pose(POSES[0], POSES[1]).double(),
        atol=1e-5,
        rtol=0,
    )
    item = load_scene(files.scene).objects[1]
    sides = np.ptp(item.vertices, axis=0)
    np.testing.assert_allclose(sides / sides[0], (1, 0.5, 0.25), atol=1e-5)
    assert json.loads(files.poses.read_text())["glb"]["scale"] > 0
    assert scene_file(tmp_path / "scene_test_x", "s1").is_file()


def test_a_scene_without_meshes_is_not_written(result, tmp_path):
    empty = SceneResult((GeneratedObject(0, POSES[0], torch.zeros(2, 2, 2), None, problem="nothing"),), 0)
    with pytest.raises(ExportError, match="s1: expected at least one object"):
        write_root_scene(empty, tmp_path, "s1")
    assert not list(tmp_path.iterdir())
