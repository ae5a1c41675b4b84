"""`evaluate.py --photos` from the command line to tables and report."""

import csv
import json

import pytest

import evaluate
from tests.photo_scenes import write_photo, write_prediction


@pytest.fixture
def folders(tmp_path):
    for scene_id in ("a", "b"):
        write_photo(tmp_path / "photos", scene_id)
    write_prediction(tmp_path / "made", "a")
    return tmp_path


def run(folders, *options) -> int:
    return evaluate.main(
        ["--prediction", f"{folders}/made", "--photos", f"{folders}/photos", *map(str, options)]
    )


def test_command_prints_a_table_and_writes_the_report(folders, capsys):
    output = folders / "r.json"
    assert run(folders, "--output", output, "--csv", "--markdown", "--verbose") == 0
    text = capsys.readouterr().out
    assert "modal_overlap" in text and "mask_overlap" in text and "obj_1" in text
    assert "1 of 2 scenes evaluated (1 missing" in text
    report = json.loads(output.read_text())
    assert report["summary"]["modal_overlap"]["mean"] == pytest.approx(0.5, abs=0.01)
    assert [scene["status"] for scene in report["scenes"]] == ["evaluated", "missing"]
    rows = list(csv.DictReader(output.with_suffix(".csv").open()))
    assert [row["id"] for row in rows] == ["a", "b"] and float(rows[0]["modal_overlap"]) > 0.99
    objects = list(csv.DictReader(output.with_suffix(".objects.csv").open()))
    assert [(row["id"], row["object"]) for row in objects] == [("a", "0"), ("a", "1"), ("b", "0"), ("b", "1")]
    assert "| a | 2 |" in output.with_suffix(".md").read_text()
    assert output.with_suffix(".records.jsonl").is_file()


def test_strict_ends_with_one_where_a_scene_is_missing(folders):
    assert run(folders, "--strict") == 1
    assert run(folders, "--strict", "--limit", "1") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--csv"], "--csv needs --output"),
        (["--truth", "x"], "--truth"),
        (["--list", "/nothing.txt"], "expected a list of scenes"),
    ],
)
def test_options_that_do_not_fit_end_with_one_line(folders, options, message, capsys, caplog):
    try:
        status = run(folders, *options)
    except SystemExit as end:
        status = end.code
    assert status == 2
    said = capsys.readouterr().err + caplog.text
    assert message in said and "Traceback" not in said


def test_missing_folder_ends_with_one_line(folders, caplog):
    arguments = ["--prediction", f"{folders}/made", f"--photos={folders}/nothing"]
    assert evaluate.main(arguments) == 2
    assert "nothing" in caplog.text and "check the path" in caplog.text
