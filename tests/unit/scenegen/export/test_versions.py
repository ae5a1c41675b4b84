"""Earlier versions of a scene's folder: kept whole, brought back, and robust against what lies around."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scenegen.export.kept_files import with_digests
from scenegen.export.scene_files import ExportError
from scenegen.export.versions import go_back, keep_version


def _write(folder: Path, **files: str) -> None:
    """A scene's files as a run writes them: new files, and a record that lists them."""
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        path = folder / f"{name}.glb"
        path.unlink(missing_ok=True)
        path.write_text(text)
    record = {"files": [*(f"{name}.glb" for name in files), "poses.json"], "formats": ["glb"]}
    (folder / "poses.json").unlink(missing_ok=True)
    (folder / "poses.json").write_text(json.dumps(with_digests(record, folder)))


def _texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.glob("*.glb"))}


@pytest.fixture
def scene(tmp_path) -> Path:
    _write(tmp_path / "lounge", scene="one", obj_0="a", obj_1="b")
    return tmp_path / "lounge"


def test_versions_come_back_one_after_the_other(scene):
    for text in ("two", "three"):
        keep_version(scene)
        _write(scene, scene=text, obj_0="a")
    assert go_back(scene).name == "2" and _texts(scene)["scene.glb"] == "two"
    assert _texts(scene / "versions" / "undone")["scene.glb"] == "three"
    assert go_back(scene).name == "1"
    with pytest.raises(ExportError, match="expected an earlier version to go back to, found none"):
        go_back(scene)
    assert _texts(scene)["scene.glb"] == "one"


def test_files_that_a_version_lacks_are_gone_and_those_of_others_stay(scene):
    keep_version(scene)
    _write(scene, scene="two", obj_7="new")
    (scene / "notes.txt").write_text("mine")
    go_back(scene)
    assert set(_texts(scene)) == {"scene.glb", "obj_0.glb", "obj_1.glb"}
    assert (scene / "notes.txt").read_text() == "mine"


def test_what_a_person_changed_is_set_aside(scene):
    keep_version(scene)
    _write(scene, scene="two")
    (scene / "scene.glb").unlink()
    (scene / "scene.glb").write_text("edited in Blender")
    go_back(scene)
    assert (scene / "scene.glb").read_text() == "one"
    assert (scene / "scene.glb.bak").read_text() == "edited in Blender"


def test_a_version_that_was_kept_before_an_interruption_does_not_count(scene):
    keep_version(scene)
    _write(scene, scene="two")
    keep_version(scene)  # and then the change was interrupted
    go_back(scene)
    assert _texts(scene)["scene.glb"] == "one"


def test_a_scene_whose_files_are_lost_half_way_comes_back(scene):
    keep_version(scene)
    (scene / "poses.json").unlink()
    (scene / "scene.glb").unlink()
    go_back(scene)
    assert _texts(scene)["scene.glb"] == "one" and (scene / "poses.json").is_file()


def test_a_record_leads_to_no_file_outside(scene, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    record = json.loads((scene / "poses.json").read_text())
    record["files"] += ["../secret.txt", "/etc/passwd"]
    (scene / "poses.json").write_text(json.dumps(record))
    version = keep_version(scene)
    assert {path.name for path in version.rglob("*")} == {"scene.glb", "obj_0.glb", "obj_1.glb", "poses.json"}


def test_a_folder_without_a_scene_has_no_version(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExportError, match="expected a finished scene"):
        keep_version(tmp_path / "empty")
    with pytest.raises(ExportError, match="found none"):
        go_back(tmp_path / "empty")
