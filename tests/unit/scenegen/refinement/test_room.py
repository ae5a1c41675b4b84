"""The room of a generated scene, from the photo to the files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

import inference
from scenegen.export.frames import in_frame_of
from scenegen.export.scene_files import write_scene
from scenegen.inputs.scene_images import SceneImages
from scenegen.photo.room import RoomPlanes, eye_of
from scenegen.pipelines.result import GeneratedObject, SceneResult
from scenegen.refinement.room import with_room
from tests.gltf_validator import errors_of
from tests.unit.scenegen.photo.painted_rooms import camera, painted

IDENTITY = torch.tensor([0.0, 0.3, 0, 1, 0, 0, 0, 1])
SMALL = torch.tensor([0.2, 0.15, 0.1, 0.9238795, 0, 0.3826834, 0, 0.5])


@pytest.fixture(scope="module")
def photo():
    view = camera()
    picture, mask, _ = painted(RoomPlanes(eye_of(view), 0.0, 0.2, (np.inf, np.inf, 4.6, np.inf)), view)
    return SceneImages.from_masks(Image.fromarray(picture), [mask])


@pytest.fixture(scope="module")
def result(photo):
    box = trimesh.creation.box((1.0, 0.6, 0.8))
    box.visual.vertex_colors = np.tile((200, 30, 30, 255), (len(box.vertices), 1))
    objects = tuple(
        GeneratedObject(number, pose, torch.zeros(2, 2, 2), box)
        for number, pose in enumerate((IDENTITY, SMALL))
    )
    return with_room(SceneResult(objects, 0, camera()), photo)


def test_the_floor_is_under_the_objects_and_the_wall_behind_them(result):
    floor, wall = result.room
    assert np.allclose(floor.corners[:, 1], 0, atol=0.02)
    away = (wall.corners - eye_of(result.camera)) @ [-np.sin(0.2), 0, -np.cos(0.2)]
    assert np.allclose(away, 4.6, rtol=0.06)
    assert result.settings["room"]["walls"] == 1 and "room" in result.timings


def test_files_have_the_room_in_the_frame_of_the_objects(result, tmp_path):
    write_scene(result, tmp_path / "room", ("glb",))
    scene = trimesh.load_scene(tmp_path / "room" / "scene.glb", process=False)
    assert set(scene.graph.nodes_geometry) == {"obj_0", "obj_1", "room_floor", "room_wall_0"}
    record = json.loads((tmp_path / "room" / "poses.json").read_text())
    to_file = lambda points: record["glb"]["scale"] * (np.asarray(points) - record["glb"]["centre"])  # noqa: E731
    for part in record["room"]:
        transform, name = scene.graph[part["node"]]
        corners = trimesh.transform_points(scene.geometry[name].vertices, transform)
        assert np.allclose(np.sort(corners, axis=0), np.sort(to_file(part["corners"]), axis=0), atol=1e-4)
    transform, name = scene.graph["obj_0"]
    lowest = trimesh.transform_points(scene.geometry[name].vertices, transform)[:, 1].min()
    assert lowest == pytest.approx(to_file(record["room"][0]["corners"])[:, 1].mean(), abs=0.03)
    assert errors_of(tmp_path / "room" / "scene.glb") == []


def test_in_the_frame_of_another_object_the_room_stays_where_it_is(result):
    other = in_frame_of(result, 1)
    turn = torch.tensor([[0.7071068, 0, 0.7071068], [0, 1, 0], [-0.7071068, 0, 0.7071068]]).numpy()
    for part, moved in zip(result.room, other.room):
        assert np.allclose(0.5 * moved.corners @ turn.T + SMALL[:3].numpy(), part.corners, atol=1e-5)


def test_without_a_camera_there_is_no_room_and_the_record_says_why(result, photo):
    without = with_room(replace(result, camera=None, room=()), photo)
    assert without.room == () and "no camera" in without.settings["room"]["skipped"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--room", "--formats", "ply"], "--room: is in the files of glb and glb+splats"),
        (["--room", "--output-dir", "assets", "--set", "test"], "--room: scenes of a data root"),
    ],
)
def test_a_room_that_no_file_would_have_is_refused_in_one_line(arguments, words, capsys):
    with pytest.raises(SystemExit):
        inference.main(arguments)
    error = capsys.readouterr().err.strip()
    assert words in error.splitlines()[-1]
