"""Running a command again: what has changed is made again with one line, what has not is left alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inference
from scenegen.export.names import POSES_FILE


@pytest.fixture
def run(tmp_path, shared_checkpoint, capsys, caplog) -> Callable[..., tuple[dict[str, int], list[str]]]:
    """Call inference.main; how many scenes are done, skipped and failed, and the lines of warnings."""

    def call(*arguments: object) -> tuple[dict[str, int], list[str]]:
        caplog.clear()
        given = ["--checkpoint", shared_checkpoint, "--json", *arguments]
        inference.main([str(argument) for argument in given])
        counts = json.loads(capsys.readouterr().out)
        lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        return {name: counts[name] for name in ("done", "skipped", "failed") if counts[name]}, lines

    return call


def repaint(photo: Path) -> None:
    Image.fromarray(255 - np.asarray(Image.open(photo))).save(photo)


@pytest.fixture
def folder(tmp_path, write_scene, run):
    """Arguments for a finished scene of two objects, and where its photo lies."""
    write_scene(tmp_path / "in" / "room", 2)
    arguments = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--formats", "glb")
    assert run(*arguments) == ({"done": 1}, [])
    return arguments


def test_a_scene_whose_input_is_the_same_is_skipped(folder, run):
    assert run(*folder) == ({"skipped": 1}, [])
    assert run(*folder, "--overwrite") == ({"done": 1}, [])


def test_another_photo_of_the_same_name_replaces_the_scene_in_one_line(tmp_path, folder, run):
    repaint(tmp_path / "in" / "room" / "scene.jpg")
    counts, lines = run(*folder)
    assert counts == {"done": 1} and lines == [
        "room: was made from another photo; it is made again, in place of poses.json, scene.glb in "
        f"{tmp_path / 'out'}"
    ]
    assert run(*folder) == ({"skipped": 1}, [])


def test_another_setting_and_another_mask_are_named(tmp_path, folder, run):
    mask = tmp_path / "in" / "room" / "1_mask.png"
    Image.fromarray(np.roll(np.asarray(Image.open(mask)), 1, axis=0)).save(mask)
    (line,) = run(*folder, "--seed", "7")[1]
    assert line.startswith("room: was made from other masks and other settings (seed); it is made again")


def test_a_photo_by_file_of_the_same_name_in_another_folder_is_another(tmp_path, run, write_scene):
    for name in ("a", "b"):
        scene = write_scene(tmp_path / name, 1)
        (scene / "scene.jpg").rename(tmp_path / name / "lounge.jpg")
    repaint(tmp_path / "b" / "lounge.jpg")
    common = ("--output", tmp_path / "out", "--formats", "glb")
    for name in ("a", "b"):
        given = (
            "--input",
            tmp_path / name / "lounge.jpg",
            "--masks",
            tmp_path / name / "0_mask.png",
            *common,
        )
        assert run(*given)[0] == {"done": 1}
        assert run(*given)[0] == {"skipped": 1}


def test_what_a_person_edited_is_kept_when_the_scene_is_made_again(tmp_path, folder, run):
    (tmp_path / "out" / "room" / "scene.glb").write_bytes(b"edited")
    repaint(tmp_path / "in" / "room" / "scene.jpg")
    assert [line.split(":")[0] for line in run(*folder)[1]] == ["room", f"{tmp_path}/out/room/scene.glb"]
    assert (tmp_path / "out" / "room" / "scene.glb.bak").read_bytes() == b"edited"


def test_a_scene_of_an_earlier_version_stays(tmp_path, folder, run):
    path = tmp_path / "out" / "room" / POSES_FILE
    record = json.loads(path.read_text())
    del record["made_from"], record["sha256"]
    path.write_text(json.dumps(record))
    repaint(tmp_path / "in" / "room" / "scene.jpg")
    assert run(*folder) == ({"skipped": 1}, [])


def test_a_scene_whose_input_is_broken_fails_and_stays(tmp_path, folder, run):
    before = (tmp_path / "out" / "room" / "scene.glb").read_bytes()
    (tmp_path / "in" / "room" / "scene.jpg").write_bytes(b"no picture")
    assert run(*folder)[0] == {"failed": 1}
    assert (tmp_path / "out" / "room" / "scene.glb").read_bytes() == before


@pytest.fixture
def root(tmp_path, write_scene, run):
    """Arguments for a finished scene of a data root."""
    write_scene(tmp_path / "masked_images_test" / "s1", 2)
    arguments = ("--output_dir", tmp_path, "--set", "test", "--model_name", "toy")
    assert run(*arguments) == ({"done": 1}, [])
    return arguments


def test_scenes_of_a_data_root_are_known_by_their_input_too(tmp_path, root, run):
    scene = tmp_path / "scene_test_toy" / "s1.glb"
    assert run(*root) == ({}, [])
    repaint(tmp_path / "masked_images_test" / "s1" / "scene.jpg")
    counts, (line,) = run(*root)
    assert counts == {"done": 1} and line == (
        f"s1: was made from another photo; it is made again, in place of s1.glb, s1.json in {scene.parent}"
    )
    assert run(*root) == ({}, []) and {path.name for path in scene.parent.iterdir()} == {"s1.glb", "s1.json"}
    scene.write_bytes(b"edited")
    assert run(*root, "--seed", "3")[0] == {"done": 1}
    assert scene.with_name("s1.glb.bak").read_bytes() == b"edited" and scene.read_bytes()[:4] == b"glTF"


@pytest.mark.parametrize("lost", [True, False])
def test_scenes_of_a_data_root_of_an_earlier_version_stay(tmp_path, root, run, lost):
    record = tmp_path / "scene_test_toy" / "s1.json"
    if lost:
        record.unlink()
    else:
        kept = json.loads(record.read_text())
        record.write_text(json.dumps({key: kept[key] for key in kept if key not in ("made_from", "sha256")}))
    repaint(tmp_path / "masked_images_test" / "s1" / "scene.jpg")
    assert run(*root) == ({}, [])
    assert run(*root, "--overwrite") == ({"done": 1}, [])


def test_another_checkpoint_of_the_same_name_makes_scenes_again(
    tmp_path, shared_checkpoint, write_scene, run
):
    write_scene(tmp_path / "in" / "room", 1)
    checkpoint = tmp_path / "mine"
    shutil.copytree(shared_checkpoint, checkpoint)
    given = ("--input", tmp_path / "in", "--output", tmp_path / "out", "--formats", "poses")
    assert run(*given)[0] == {"done": 1}
    assert run(*given, "--checkpoint", checkpoint)[0] == {"skipped": 1}
    description = checkpoint / "pipeline.json"
    description.write_text(description.read_text().replace('"steps": 2', '"steps": 1'))
    assert "other settings (checkpoint)" in run(*given, "--checkpoint", checkpoint)[1][0]
