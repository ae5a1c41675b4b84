"""The benchmark of placement refinement on a toy scene whose truth is known."""

import json

import pytest
import torch
import trimesh

from benchmarks import placement_refinement
from scenegen.export.scene_files import write_scene
from scenegen.pipelines.result import GeneratedObject, SceneResult

LOGITS = torch.zeros(2, 2, 2)


def write_boxes(folder, distance: float) -> None:
    """Two unit cubes side by side, their centres so far apart; object 0 is the query."""
    objects = []
    for index in range(2):
        mesh = trimesh.creation.box((1, 1, 1))
        mesh.visual.vertex_colors = [200, 100, 50, 255]
        pose = torch.tensor([index * distance, 0, 0, 1, 0, 0, 0, 1])
        objects.append(GeneratedObject(index, pose, LOGITS, mesh))
    write_scene(SceneResult(tuple(objects), query_id=0), folder, ("glb", "poses"))


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b"):
        write_boxes(tmp_path / "truth" / name, 1.0)
    write_boxes(tmp_path / "prediction" / "a", 0.8)
    return tmp_path


def run(folder, *arguments) -> tuple[int, dict]:
    output = folder / "output"
    folders = ["--truth", f"{folder}/truth", "--output", str(output)]
    status = placement_refinement.main([*arguments, *folders, "--alignment", "none"])
    return status, json.loads((output / "report.json").read_text())


def test_prediction_is_measured_and_a_missing_one_is_not_passed_over(folders, capsys):
    status, report = run(folders, "--prediction", f"{folders}/prediction", "--write")
    summary = report["summary"]
    assert status == 1 and summary["scenes"] == 1  # scene b was not predicted
    assert summary["penetration_before"] == pytest.approx(0.2, rel=0.1)
    assert summary["penetration_cut"] > 0.9
    assert summary["iou_after"] > 0.9 > 0.8 > summary["iou_before"]
    assert (folders / "output" / "refined" / "a" / "scene.glb").is_file()
    assert "IoU-B" in capsys.readouterr().out


def test_second_run_takes_what_was_measured_and_changed_files_are_measured_again(folders, monkeypatch):
    arguments = ("--disturb", "3", "--limit", "1")
    first = run(folders, *arguments)
    assert first[1]["scenes"][0]["iou_before"][1] < 0.95  # it was disturbed

    def measured_again(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(placement_refinement, "measure_pair", measured_again)
    assert run(folders, *arguments) == first
    write_boxes(folders / "truth" / "a", 1.5)
    with pytest.raises(AssertionError, match="measured again"):
        run(folders, *arguments)


def test_folders_without_a_common_scene_are_refused(folders, caplog):
    (folders / "empty").mkdir()
    arguments = ["--prediction", f"{folders}/empty", "--truth", f"{folders}/truth"]
    assert placement_refinement.main([*arguments, "--output", f"{folders}/output"]) == 1
    assert "found none" in caplog.text
