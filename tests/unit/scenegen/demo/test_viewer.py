"""The page of generated and true scenes: what it lists, and what it answers to a request."""

import importlib.util
import json
import socket
from pathlib import Path

import pytest
import trimesh

from scenegen.demo import viewer
from scenegen.demo.panels import POSE_COLUMNS, pose_rows
from scenegen.demo.viewer import (
    ViewerUnavailable,
    build_viewer,
    default_truth_folder,
    launch_viewer,
    shown_scenes,
)
from scenegen.evaluation.loading import EvaluationError

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is not installed (extra demo)"
)
POSES = {
    "query": 0,
    "objects": [{"id": 0, "translation": [0, 0, 0.12345], "rotation_wxyz": [1, 0, 0, 0], "scale": 1}],
}


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    """Predictions of the scenes room_2, room_10 and extra; truth of the first two."""
    predictions, truth = tmp_path / "outputs", tmp_path / "scene_test"
    glb = trimesh.Scene([trimesh.creation.box()]).export(file_type="glb")
    for name in ("room_10", "room_2", "extra"):
        (predictions / name).mkdir(parents=True)
        (predictions / name / "scene.glb").write_bytes(glb)
        (predictions / name / "poses.json").write_text(json.dumps(POSES))
    truth.mkdir()
    for name in ("room_2", "room_10", "never_made"):
        (truth / f"{name}.glb").write_bytes(glb + name.encode())
    return predictions, truth


def test_scenes_are_listed_in_natural_order_with_their_truth(folders):
    scenes = shown_scenes(*folders)
    assert list(scenes) == ["extra", "room_2", "room_10"]
    assert scenes["extra"].truth is None
    assert scenes["room_2"].truth.scene == folders[1] / "room_2.glb"


def test_nothing_to_show_is_said(tmp_path):
    with pytest.raises(ViewerUnavailable, match="expected scenes to show, found none; run inference.py"):
        shown_scenes(tmp_path, None)
    with pytest.raises(EvaluationError, match="no such folder"):
        shown_scenes(tmp_path / "missing", None)


def test_truth_is_found_beside_the_images(tmp_path):
    images = tmp_path / "masked_images_test"
    images.mkdir()
    assert default_truth_folder(images) is None
    (tmp_path / "scene_test").mkdir()
    assert default_truth_folder(images) == tmp_path / "scene_test"
    assert default_truth_folder(tmp_path) is None


def test_pose_table(folders):
    assert pose_rows(folders[0] / "extra" / "poses.json") == [[0, 0, 0, 0.123, 1, 0, 0, 0, 1]]
    assert len(POSE_COLUMNS) == 9
    assert pose_rows(None) == []


def test_pose_table_shows_the_names_that_somebody_gave(tmp_path):
    named, unnamed = (
        {**POSES["objects"][0], "id": number, "name": name}
        for number, name in ((3, "chair"), (4, "object 4"))
    )
    (tmp_path / "poses.json").write_text(json.dumps({"objects": [named, unnamed]}))
    assert [row[0] for row in pose_rows(tmp_path / "poses.json")] == ["3: chair", 4]


def test_missing_gradio_is_named_with_its_remedy(folders, monkeypatch):
    monkeypatch.setattr(viewer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ViewerUnavailable, match=r"'gradio'.*bash setup.sh --demo"):
        build_viewer(*folders)


@needs_gradio
def test_a_port_that_is_taken_is_said(folders):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ViewerUnavailable, match=f"listen at 127.0.0.1, port {port}, .*another --port"):
            launch_viewer(*folders, port=port, block=False)


@needs_gradio
def test_a_request_gets_both_files_and_the_poses(folders):
    from gradio_client import Client

    client = Client(launch_viewer(*folders, block=False), verbose=False)
    generated, true, generated_download, true_download, poses = client.predict("room_10", api_name="/show")
    assert Path(generated).read_bytes() == (folders[0] / "room_10" / "scene.glb").read_bytes()
    assert Path(true).read_bytes() == (folders[1] / "room_10.glb").read_bytes()
    assert Path(generated_download).is_file() and Path(true_download).is_file()
    assert poses["data"] == [[0, 0, 0, 0.123, 1, 0, 0, 0, 1]]
    assert client.predict("extra", api_name="/show")[1] is None
