"""Files of a person in a scene folder: none is lost when the scene is written again."""

import json

import numpy as np
import pytest
import torch
import trimesh

from scenegen.export.scene_files import is_complete, write_scene
from scenegen.pipelines.result import GeneratedObject, SceneResult

IDENTITY = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1])
FORMATS = ["glb", "objects"]


def _result(count: int = 2) -> SceneResult:
    mesh = trimesh.creation.box()
    mesh.visual.vertex_colors = np.full((len(mesh.vertices), 4), 255, np.uint8)
    return SceneResult(
        tuple(GeneratedObject(k, IDENTITY, torch.zeros(2, 2, 2), mesh) for k in range(count)), 0
    )


@pytest.fixture
def folder(tmp_path):
    """A finished scene of two objects."""
    write_scene(_result(), tmp_path / "room", FORMATS)
    return tmp_path / "room"


def _names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    "name", ["obj_0_edited.glb", "obj_table.glb", "obj_0_retouched_colour.png", "notes.txt", "labels.png",
             "scene.glb.bak", "scene.usda"]
)  # fmt: skip
def test_files_of_a_person_stay(folder, name):
    (folder / name).write_text("mine")
    write_scene(_result(), folder, FORMATS)
    assert (folder / name).read_text() == "mine"


def test_a_file_that_was_changed_is_kept_beside_the_new_one(folder, caplog):
    for number, text in enumerate(("first", "second")):
        (folder / "obj_0.glb").write_text(text)
        write_scene(_result(), folder, FORMATS)
        assert caplog.messages[number].endswith(f"kept as obj_0.glb.bak{'2' if number else ''}")
    assert (folder / "obj_0.glb.bak").read_text() == "first" and (
        folder / "obj_0.glb.bak2"
    ).read_text() == "second"
    assert (folder / "obj_0.glb").read_bytes()[:4] == b"glTF" and is_complete(folder, FORMATS)
    assert not (folder / "scene.glb.bak").exists()


def test_a_file_of_a_person_with_the_name_of_a_new_one_is_kept(folder):
    (folder / "scene.obj").write_text("mine")
    write_scene(_result(), folder, ["obj"])
    assert (folder / "scene.obj.bak").read_text() == "mine"
    assert (folder / "scene.obj").read_text().startswith("mtllib")


def test_a_changed_file_that_nothing_replaces_stays(folder, caplog):
    (folder / "obj_1.glb").write_text("mine")
    write_scene(_result(1), folder, FORMATS)
    assert (folder / "obj_1.glb").read_text() == "mine"
    assert "it stays, but is no part of the scene" in caplog.text


def test_files_of_ours_that_are_not_made_again_go(folder, caplog):
    write_scene(_result(1), folder, ["objects"])
    assert _names(folder) == {"obj_0.glb", "poses.json"} and not caplog.messages


def test_an_edited_record_is_kept(folder):
    record = json.loads((folder / "poses.json").read_text())
    record["objects"][0]["name"] = "my table"
    (folder / "poses.json").write_text(json.dumps(record))
    write_scene(_result(), folder, FORMATS)
    assert json.loads((folder / "poses.json.bak").read_text())["objects"][0]["name"] == "my table"


def test_without_a_record_nothing_is_lost(folder):
    (folder / "poses.json").unlink()
    (folder / "obj_7.glb").write_text("whose?")
    before = (folder / "scene.glb").read_bytes()
    write_scene(_result(), folder, FORMATS)
    assert (folder / "obj_7.glb.bak").read_text() == "whose?" and not (folder / "obj_7.glb").exists()
    assert (folder / "scene.glb.bak").read_bytes() == before


def test_a_record_of_an_earlier_version_has_no_digests_and_its_files_are_replaced(folder, caplog):
    record = json.loads((folder / "poses.json").read_text())
    del record["sha256"]
    (folder / "poses.json").write_text(json.dumps(record))
    write_scene(_result(1), folder, FORMATS)
    assert _names(folder) == {"scene.glb", "obj_0.glb", "poses.json"} and not caplog.messages


def test_a_record_cannot_name_files_elsewhere_or_of_other_kinds(folder, tmp_path):
    for path in (tmp_path / "scene.glb", folder / "notes.txt"):
        path.write_text("mine")
    record = json.loads((folder / "poses.json").read_text())
    del record["sha256"]
    record["files"] += ["../scene.glb", "notes.txt"]
    (folder / "poses.json").write_text(json.dumps(record))
    write_scene(_result(), folder, FORMATS)
    assert (tmp_path / "scene.glb").read_text() == (folder / "notes.txt").read_text() == "mine"
