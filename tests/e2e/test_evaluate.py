"""`evaluate.py` on folders of small scenes, from the command line to the report."""

import csv
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import trimesh

import evaluate

SCENE_IDS = ("s1", "s2", "s10")


def write_scene(path, poses_path, yaw_deg=0.0):
    """Two different bodies, the second turned by `yaw_deg`."""
    yaw = np.deg2rad(yaw_deg)
    placed = trimesh.transformations.rotation_matrix(yaw, (0, 1, 0))
    placed[:3, 3] = (1.4, 0.0, 0.3)
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((1.0, 0.6, 0.7)), node_name="obj_0", geom_name="a")
    scene.add_geometry(
        trimesh.creation.box((0.9, 1.0, 0.3)), node_name="obj_1", geom_name="b", transform=placed
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    scene.export(path)
    objects = [
        {"id": 0, "node": "obj_0", "translation": [0, 0, 0], "rotation_wxyz": [1, 0, 0, 0], "scale": 1},
        {
            "id": 1,
            "node": "obj_1",
            "translation": [1.4, 0, 0.3],
            "rotation_wxyz": [np.cos(yaw / 2), 0, np.sin(yaw / 2), 0],
            "scale": 1.0,
        },
    ]
    poses_path.write_text(json.dumps({"query": 0, "objects": objects}))


@pytest.fixture
def folders(tmp_path):
    """Truth as <id>.glb, predictions as <id>/scene.glb; s2 is predicted with a wrong turn."""
    prediction, truth = tmp_path / "prediction", tmp_path / "truth"
    for scene_id in SCENE_IDS:
        write_scene(truth / f"{scene_id}.glb", truth / f"{scene_id}.json")
        folder = prediction / scene_id
        folder.mkdir(parents=True)
        write_scene(folder / "scene.glb", folder / "poses.json", yaw_deg=25.0 if scene_id == "s2" else 0.0)
    return prediction, truth


def run(folders, *options):
    prediction, truth = folders
    return evaluate.main(
        ["--prediction", str(prediction), "--truth", str(truth), "--num-points", "600", *options]
    )


def without_times(report):
    scenes = json.loads(json.dumps(report["scenes"]))
    for scene in scenes:
        del scene["seconds"]
        for part in scene["protocols"].values():
            del part["alignment"]
    return report["protocols"], report["coverage"], scenes


def summary(report, which="all"):
    return report["protocols"]["corrected"]["summary"][which]


def test_report_is_the_same_for_any_number_of_workers(folders, tmp_path, capsys):
    reports = []
    for workers in ("1", "4"):
        output = tmp_path / f"results_{workers}.json"
        assert run(folders, "--output", str(output), "--csv", "--workers", workers) == 0
        reports.append(json.loads(output.read_text()))
    assert without_times(reports[0]) == without_times(reports[1])
    assert [scene["id"] for scene in reports[0]["scenes"]] == list(SCENE_IDS)
    rotation = summary(reports[0])["rotation_error_deg"]
    assert rotation["mean"] == pytest.approx(25 / 3) and rotation["count"] == 3
    with (tmp_path / "results_1.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == list(SCENE_IDS)
    printed = capsys.readouterr().out.splitlines()
    assert any("scenes 3/3 evaluated" in line for line in printed) and len(printed) < 2 * 24


def test_failed_and_missing_scenes_count_and_strict_tells(folders, tmp_path, caplog):
    prediction, _ = folders
    (prediction / "s1" / "scene.glb").write_bytes(b"glTF and nothing else in it")
    (prediction / "s10" / "scene.glb").unlink()
    output = tmp_path / "results.json"
    assert run(folders, "--output", str(output)) == 0
    report = json.loads(output.read_text())
    assert report["coverage"]["failed"] == report["coverage"]["missing"] == 1
    assert summary(report)["scene_fscore"]["mean"] < 0.4
    assert summary(report, "matched")["scene_fscore"]["mean"] > 0.8
    assert str(prediction / "s1" / "scene.glb") in caplog.text
    assert run(folders, "--output", str(output), "--strict") == 1


def test_limit_takes_the_first_scenes(folders, tmp_path):
    output = tmp_path / "results.json"
    assert run(folders, "--output", str(output), "--limit", "1", "--alignment", "none") == 0
    report = json.loads(output.read_text())
    assert [scene["id"] for scene in report["scenes"]] == ["s1"]
    figures = report["scenes"][0]["protocols"]["corrected"]["metrics"]
    assert figures["scene_cd"] == figures["scene_cd_unaligned"]


def test_faults_of_the_truth_end_in_one_line(folders, tmp_path, caplog):
    (folders[1] / "s2.glb").write_bytes(b"")
    assert run(folders) == 2
    (line,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert "s2.glb" in line and "\n" not in line
    assert evaluate.main(["--prediction", str(tmp_path), "--truth", str(tmp_path / "absent")]) == 2


@pytest.mark.parametrize("name", ["file/results.json", "folder"])
def test_report_that_cannot_be_written_ends_in_one_line(folders, tmp_path, caplog, name):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "folder").mkdir()
    assert run(folders, "--limit", "1", "--output", str(tmp_path / name)) == 2
    (line,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert f"--output {tmp_path / name}: expected to write the report" in line and "\n" not in line


@pytest.mark.parametrize(
    "options",
    [["--csv"], ["--workers", "many"], ["--num-points", "0"], ["--alignment", "cpd"], ["--rank", "1"]],
)
def test_impossible_options_are_refused(folders, options, capsys):
    with pytest.raises(SystemExit) as raised:
        run(folders, *options)
    assert raised.value.code == 2 and options[0] in capsys.readouterr().err


def test_ranks_merge_to_the_report_of_one_process(folders, tmp_path, capsys):
    whole, parts = tmp_path / "whole.json", tmp_path / "parts.json"
    assert run(folders, "--output", str(whole)) == 0
    assert evaluate.main(["merge", "--output", str(parts)]) == 2
    for rank in ("0", "1"):
        assert run(folders, "--output", str(parts), "--rank", rank, "--world-size", "2") == 0
        assert (tmp_path / f"parts.rank{rank}.records.jsonl").is_file()
    assert evaluate.main(["merge", "--output", str(parts), "--csv", "--markdown"]) == 0
    assert without_times(json.loads(parts.read_text())) == without_times(json.loads(whole.read_text()))
    assert (tmp_path / "parts.csv").is_file() and (tmp_path / "parts.md").is_file()
    capsys.readouterr()
    assert evaluate.main(["--compare", str(whole), str(parts)]) == 0
    assert "3 scenes in both" in capsys.readouterr().out


def test_keys_of_the_published_configuration_run_the_same_evaluation(folders, tmp_path):
    prediction, truth = folders
    config = tmp_path / "scenes.yaml"
    config.write_text(
        f"seed: 42\nsystem:\n  input_dir: {prediction}\n  output_dir: null\n  num_points: 600\n"
        "  alignment_mode: filterreg\n  device: cuda\n  gpu_num: 1\n  gpu_id: 0\n  filename: metrics\n"
    )
    keys = [f"system.output_dir={truth}", f"system.save_dir={tmp_path / 'results'}"]
    assert evaluate.main(["--config-name", str(tmp_path / "scenes"), *keys, "--limit", "1"]) == 0
    report = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert report["settings"]["num_points"] == 600
    assert report["settings"]["paper"]["scene"]["mode"] == "filterreg"


def test_list_is_checked_and_counted_against(folders, tmp_path, caplog):
    ids = ["s10", "s1"]
    path = tmp_path / "list.json"
    digest = hashlib.sha256(json.dumps(ids, separators=(",", ":")).encode()).hexdigest()
    path.write_text(json.dumps({"sha256": digest, "scenes": ids}))
    output = tmp_path / "results.json"
    assert run(folders, "--list", str(path), "--output", str(output)) == 0
    assert [scene["id"] for scene in json.loads(output.read_text())["scenes"]] == ids
    path.write_text(json.dumps({"sha256": digest, "scenes": ["s1", "s10"]}))
    assert run(folders, "--list", str(path)) == 2
    assert "expected scenes with sha256" in caplog.records[-1].message


def test_folders_of_different_data_end_in_one_line(folders, tmp_path, caplog):
    write_scene(tmp_path / "other" / "x.glb", tmp_path / "other" / "x.json")
    assert evaluate.main(["--prediction", str(tmp_path / "other"), "--truth", str(folders[1])]) == 2
    assert "none of them but 'x'" in caplog.records[-1].message


@pytest.mark.slow
def test_a_run_that_is_killed_ten_times_ends_in_the_same_figures(folders, tmp_path):
    prediction, truth = folders
    whole, killed = tmp_path / "whole.json", tmp_path / "killed.json"
    assert run(folders, "--output", str(whole)) == 0
    command = [sys.executable, "-m", "scenegen", "evaluate", "--prediction", str(prediction)]
    command += ["--truth", str(truth), "--num-points", "600", "--output", str(killed), "--workers", "1"]
    began = time.monotonic()
    subprocess.run([*command, "--output", str(tmp_path / "timed.json")], check=True, capture_output=True)
    usual, rng = time.monotonic() - began, random.Random(0)
    for _ in range(10):
        process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0, usual))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert evaluate.main(command[4:]) == 0
    assert without_times(json.loads(killed.read_text())) == without_times(json.loads(whole.read_text()))
