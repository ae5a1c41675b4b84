"""`evaluate.py` on folders of small scenes, from the command line to the report."""

import csv
import json

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
    scenes = [
        {name: value for name, value in scene.items() if name not in ("seconds", "alignment")}
        for scene in report["scenes"]
    ]
    return report["summary"], report["coverage"], scenes


def test_report_is_the_same_for_any_number_of_workers(folders, tmp_path, capsys):
    reports = []
    for workers in ("1", "2"):
        output = tmp_path / f"results_{workers}.json"
        assert run(folders, "--output", str(output), "--csv", "--workers", workers) == 0
        reports.append(json.loads(output.read_text()))
    assert without_times(reports[0]) == without_times(reports[1])
    assert [scene["id"] for scene in reports[0]["scenes"]] == list(SCENE_IDS)
    rotation = reports[0]["summary"]["all"]["rotation_error_deg"]
    assert rotation["mean"] == pytest.approx(25 / 3) and rotation["count"] == 3
    with (tmp_path / "results_1.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == list(SCENE_IDS)
    assert "scenes 3/3 evaluated" in capsys.readouterr().out


def test_failed_and_missing_scenes_count_and_strict_tells(folders, tmp_path, caplog):
    prediction, _ = folders
    (prediction / "s1" / "scene.glb").write_bytes(b"glTF and nothing else in it")
    (prediction / "s10" / "scene.glb").unlink()
    output = tmp_path / "results.json"
    assert run(folders, "--output", str(output)) == 0
    report = json.loads(output.read_text())
    assert report["coverage"]["failed"] == report["coverage"]["missing"] == 1
    assert report["summary"]["all"]["scene_fscore"]["mean"] < 0.4
    assert report["summary"]["matched"]["scene_fscore"]["mean"] > 0.8
    assert str(prediction / "s1" / "scene.glb") in caplog.text
    assert run(folders, "--output", str(output), "--strict") == 1


def test_limit_takes_the_first_scenes(folders, tmp_path):
    output = tmp_path / "results.json"
    assert run(folders, "--output", str(output), "--limit", "1", "--alignment", "none") == 0
    report = json.loads(output.read_text())
    assert [scene["id"] for scene in report["scenes"]] == ["s1"]
    figures = report["scenes"][0]["metrics"]
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
    "options", [["--csv"], ["--workers", "many"], ["--num-points", "0"], ["--alignment", "cpd"]]
)
def test_impossible_options_are_refused(folders, options, capsys):
    with pytest.raises(SystemExit) as raised:
        run(folders, *options)
    assert raised.value.code == 2 and options[0] in capsys.readouterr().err
