"""The sets of hard scenes: faulty masks, hashes of what is made, the commands that are run, the table."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import hard_scenes, hard_scenes_table
from scenegen.evaluation.report import build_report, write_json
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.evaluation.settings import CORRECTED, EvaluationSettings
from scenegen.photo.camera import rotation_of
from scenegen.synthesis.pictures.scene_writer import ScenePaths
from tests.evaluation_records import evaluated_record


@pytest.fixture
def ran(monkeypatch):
    """Commands in place of which nothing runs."""
    commands = []
    monkeypatch.setattr(hard_scenes, "run_together", lambda several: commands.append(several) or 0)
    return commands


def report(value):
    record = evaluated_record(
        "s1", {CORRECTED: {"scene_fscore": value, "rotation_error_symmetric_deg": 30.0}}
    )
    return build_report(
        [record], EvaluationSettings(protocols=(CORRECTED,)), ListedScenes.of("x", ["s1"]), {}
    )


def test_faulty_masks_keep_the_query_the_largest_and_come_again():
    instances = np.full((96, 96), -1, np.int16)
    instances[10:60, 5:60], instances[50:90, 55:90] = 0, 1
    drawn = hard_scenes._drawn_badly(instances, 2, seed=3)
    assert drawn.shape == (2, 96, 96) and drawn.dtype == bool
    assert drawn[0].sum() > drawn[1].sum() > 0
    true = instances[None] == np.arange(2)[:, None, None]
    assert (drawn != true).any()
    assert np.array_equal(drawn, hard_scenes._drawn_badly(instances, 2, seed=3))
    assert not np.array_equal(drawn, hard_scenes._drawn_badly(instances, 2, seed=4))


def test_the_hash_is_that_of_the_pixels_of_all_masks(tmp_path):
    layouts = hard_scenes.layouts_of("test", "masks", limit=1)
    folder = ScenePaths.of(tmp_path, "test_masks", layouts[0].scene_id).images
    folder.mkdir(parents=True)
    for number in range(len(layouts[0].objects)):
        Image.new("RGB", (16, 16), (255, 255, 255)).save(folder / f"{number}_mask.png")
    white = hard_scenes.masks_sha256(tmp_path, "test_masks", layouts)
    Image.new("L", (16, 16), 200).save(folder / "0_mask.png")
    assert hard_scenes.masks_sha256(tmp_path, "test_masks", layouts) == white  # the same pixels
    Image.new("L", (16, 16), 0).save(folder / "0_mask.png")
    assert hard_scenes.masks_sha256(tmp_path, "test_masks", layouts) != white


def test_hashes_of_all_sets_of_both_splits_are_stated_but_for_sets_that_differ_in_looks_only():
    stated = json.loads(hard_scenes.HASHES.read_text())
    assert set(stated) == {f"{split}_{name}" for split in hard_scenes.SPLITS for name in hard_scenes.SETS}
    for split in hard_scenes.SPLITS:
        assert stated[f"{split}_looks"] == stated[f"{split}_usual"] != stated[f"{split}_masks"]


def test_recorded_hashes_are_those_of_the_masks_and_keep_other_sets(tmp_path, monkeypatch):
    layouts = hard_scenes.layouts_of("test", "usual", limit=1)
    monkeypatch.setattr(hard_scenes, "layouts_of", lambda *arguments: layouts)
    monkeypatch.setattr(hard_scenes, "HASHES", tmp_path / "hashes.json")
    (tmp_path / "hashes.json").write_text('{"validation_low": {"40": "abc"}}')
    folder = ScenePaths.of(tmp_path, "test_usual", layouts[0].scene_id).images
    folder.mkdir(parents=True)
    for number in range(len(layouts[0].objects)):
        Image.new("L", (16, 16), 255).save(folder / f"{number}_mask.png")
    assert hard_scenes.main(["record", "--root", str(tmp_path), "--sets", "usual", "looks"]) == 0
    found = json.loads((tmp_path / "hashes.json").read_text())
    expected = {"1": hard_scenes.masks_sha256(tmp_path, "test_usual", layouts)}
    assert found == {"validation_low": {"40": "abc"}, "test_usual": expected, "test_looks": expected}


def test_missing_scenes_of_a_set_are_predicted_as_structures(tmp_path, ran):
    made = tmp_path / "scene_test_cut_structure"
    made.mkdir()
    for end in ("glb", "json"):
        (made / f"cut_0000.{end}").touch()
    arguments = ["predict", "--root", str(tmp_path), "--sets", "cut", "--limit", "3", "--processes", "2"]
    assert hard_scenes.main(arguments) == 0
    [commands] = ran
    assert all("--no-appearance" in command and "test_cut" in command for command in commands)
    listed = [(tmp_path / f"test_cut_{k}.txt").read_text().split() for k in (0, 1)]
    assert listed == [["cut_0001"], ["cut_0002"]]
    assert hard_scenes.main([*arguments, "--few-steps"]) == 0
    for command, few in zip(commands, ran[1], strict=True):
        assert few == [*command[:-2], "--few-steps", *command[-2:]]


@pytest.mark.parametrize(("processes", "groups"), [(1, [1, 1]), (2, [2]), (5, [4])])
def test_sets_are_worked_on_side_by_side_where_there_are_processes_for_all(tmp_path, ran, processes, groups):
    arguments = ["predict", "--root", str(tmp_path), "--sets", "cut", "low", "--limit", "9"]
    assert hard_scenes.main([*arguments, "--processes", str(processes)]) == 0
    assert [len(commands) for commands in ran] == groups
    listed = [path.read_text().split() for path in sorted(tmp_path.glob("*.txt"))]
    assert sorted(sum(listed, [])) == [f"{name}_{k:04d}" for name in ("cut", "low") for k in range(9)]


def test_cameras_are_compared_with_the_true_ones_and_missing_ones_count(tmp_path):
    prediction, truth = tmp_path / "predicted", tmp_path / "true"
    for folder in (prediction, truth):
        folder.mkdir()
        for number in range(3):
            (folder / f"s{number}.glb").touch()
    turn = np.eye(4)
    turn[:3, :3] = rotation_of(0.4, np.deg2rad(20.0))
    for number, stated in enumerate(({"elevation_deg": 23.0, "modal_overlap": 0.6}, None, None)):
        (truth / f"s{number}.json").write_text(json.dumps({"camera": {"extrinsics": turn.tolist()}}))
        (prediction / f"s{number}.json").write_text(json.dumps({"camera": stated}))
    figures = hard_scenes_table.camera_figures(prediction, truth, ["s0"])
    assert figures == pytest.approx(
        {"elevation_error_deg": 3.0, "elevation_bias_deg": 3.0, "modal_overlap": 0.6}
    )
    (prediction / "s2.json").unlink()
    figures = hard_scenes_table.camera_figures(prediction, truth, ["s0", "s1", "s2"])
    assert figures["elevation_error_deg"] == 90.0 and figures["modal_overlap"] == pytest.approx(0.2)


def test_the_table_has_a_row_for_each_set_and_stands_between_its_marks(tmp_path, monkeypatch, ran, capsys):
    for name, value in (("usual", 0.8), ("low", 0.6)):
        (tmp_path / f"scene_test_{name}_structure").mkdir()
        (tmp_path / f"scene_test_{name}").mkdir()
        write_json(tmp_path / "out" / f"test_{name}.json", report(value))
    arguments = ["--output", str(tmp_path / "out")]
    assert hard_scenes.main(["measure", "--root", str(tmp_path), *arguments]) == 0
    assert "| usual | 1 | 0.800 (0.800 to 0.800) |" in capsys.readouterr().out
    assert [command for [command] in ran if "2048" in command and "corrected" in command]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{hard_scenes_table.BEGIN}\nold\n{hard_scenes_table.END}\nafter\n")
    monkeypatch.setattr(hard_scenes, "PAGE", page)
    assert hard_scenes.main(["insert", *arguments]) == 0
    text = page.read_text()
    assert "| low | 1 | 0.600" in text and "30.0" in text and "old" not in text and text.endswith("after\n")


def test_what_is_missing_ends_in_one_line(tmp_path, caplog, capsys):
    assert hard_scenes.main(["insert", "--output", str(tmp_path)]) == 2
    assert "run it first" in caplog.text
    with pytest.raises(SystemExit):
        hard_scenes.main(["make", "--root", str(tmp_path)])
    assert "make needs --data-root" in capsys.readouterr().err
