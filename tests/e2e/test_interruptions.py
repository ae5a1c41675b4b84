"""Runs that are killed, whose disk is full or read-only, or that meet another run: nothing made is lost."""

from __future__ import annotations

import errno
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import evaluate
import inference
from scenegen.evaluation.runner import RecordStore
from scenegen.evaluation.scene import RECORD_KEYS
from scenegen.export.names import POSES_FILE
from scripts.fingerprint import without_measurements
from tests.e2e.forked_runs import Runner, forked_runs
from tests.e2e.test_evaluate import write_scene as write_true_scene

KILLS, SCENES = 20, ("alcove", "bath", "cellar")


def content(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, records without what was measured while they were made."""
    return {
        path.relative_to(folder).as_posix(): unmeasured(path) for path in folder.rglob("*") if path.is_file()
    }


def unmeasured(path: Path) -> bytes:
    """Content of a file that runs agree on."""
    if path.name != POSES_FILE:
        return path.read_bytes()
    record = without_measurements(json.loads(path.read_text()))
    del record["sha256"][POSES_FILE]
    return json.dumps(record).encode()


def assert_whole(folder: Path, expected: dict[str, bytes]) -> None:
    """What looks finished must be what an undisturbed run writes."""
    for record in folder.glob("*/poses.json"):
        scene = record.parent.name
        for name, value in expected.items():
            if name.startswith(f"{scene}/"):
                assert unmeasured(folder / name) == value, name


@pytest.fixture(scope="module")
def runner(tmp_path_factory) -> Iterator[Runner]:
    modules = ["scenegen.cli.infer", "torch._dynamo"]
    with forked_runs("inference", tmp_path_factory.mktemp("logs"), modules) as started:
        yield started


@pytest.fixture
def batch(tmp_path, shared_checkpoint, write_scene) -> tuple[object, ...]:
    """Arguments of a batch of three scenes, without its output."""
    for count, name in zip((1, 2, 1), SCENES):
        write_scene(tmp_path / "in" / name, count)
    return ("--input", tmp_path / "in", "--checkpoint", shared_checkpoint, "--formats", "glb")


@pytest.mark.slow
def test_twenty_kills_of_a_batch_leave_nothing_that_a_second_run_does_not_finish(tmp_path, runner, batch):
    undisturbed = runner.run(*batch, "--output", tmp_path / "whole")
    assert undisturbed.status == 0
    expected, output = content(tmp_path / "whole"), tmp_path / "out"
    rng, killed = random.Random(0), 0
    while killed < KILLS:
        end = runner.run(*batch, "--output", output, kill_after=rng.random() * undisturbed.seconds)
        killed += end.status is None
        if output.exists():
            assert_whole(output, expected)
        if end.status is None and killed % 4:
            continue  # the next run goes on from here, and is killed too
        assert runner.run(*batch, "--output", output).status == 0
        assert content(output) == expected
        shutil.rmtree(output)


def test_two_runs_on_one_folder_at_once_both_end_well(tmp_path, runner, batch):
    assert runner.run(*batch, "--output", tmp_path / "whole").status == 0
    numbers = [runner.start(*batch, "--output", tmp_path / "out") for _ in range(2)]
    for number in numbers:
        end = runner.wait(number)
        assert end.status == 0, end.lines
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.fixture
def folders(tmp_path) -> tuple[object, ...]:
    """Arguments of an evaluation of three scenes, without its output."""
    for folder in ("truth", "prediction"):
        for turn, name in enumerate(SCENES):
            path = tmp_path / folder / f"{name}.glb"
            write_true_scene(path, path.with_suffix(".json"), 10.0 * turn if folder == "prediction" else 0.0)
    few = ("--num-points", "300", "--alignment", "filterreg", "--workers", "1")
    return ("--prediction", tmp_path / "prediction", "--truth", tmp_path / "truth", *few)


def without_times(report: Path) -> Any:
    """A report without what was measured of the run."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if not key.startswith("seconds")}
        return [strip(item) for item in value] if isinstance(value, list) else value

    return strip(json.loads(report.read_text()))


@pytest.mark.slow
def test_twenty_kills_of_an_evaluation_leave_nothing_that_the_next_run_does_not_finish(tmp_path, folders):
    with forked_runs("evaluate", tmp_path, ["scenegen.cli.evaluate", "scenegen.evaluation.runner"]) as runner:
        undisturbed = runner.run(*folders, "--output", tmp_path / "whole.json")
        assert undisturbed.status == 0
        expected, report = without_times(tmp_path / "whole.json"), tmp_path / "out" / "report.json"
        rng, killed = random.Random(1), 0
        while killed < KILLS:
            end = runner.run(*folders, "--output", report, kill_after=rng.random() * undisturbed.seconds)
            killed += end.status is None
            if report.exists():
                assert without_times(report) == expected
            if end.status is None and killed % 7:
                continue
            assert runner.run(*folders, "--output", report).status == 0
            assert without_times(report) == expected
            assert {path.name for path in report.parent.iterdir()} == {"report.json", "report.records.jsonl"}
            shutil.rmtree(report.parent)


def test_records_of_an_evaluation_that_goes_on_are_refused(tmp_path, folders, caplog):
    arguments = [str(argument) for argument in (*folders, "--output", tmp_path / "report.json")]
    with RecordStore(tmp_path / "report.records.jsonl"):
        assert evaluate.main(arguments) == 2
    assert "another run writes these records; wait for its end, or choose another" in caplog.messages[-1]


def test_half_a_record_of_a_killed_evaluation_is_left_alone(tmp_path, folders, caplog):
    record = dict.fromkeys(RECORD_KEYS, 0)
    with RecordStore(tmp_path / "a.jsonl") as store:
        store.add("first", record)
    path = tmp_path / "a.jsonl"
    path.write_bytes(path.read_bytes() + b'{"fingerprint": "sec')
    with RecordStore(path) as store:
        store.add("third", record)
    with RecordStore(path) as store:
        assert [store.get(name) for name in ("first", "sec", "third")] == [record, None, record]


def full_disk(*arguments: object, **keywords: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "place", ["scenegen.export.scene_files._move_into_place", "pathlib.Path.write_bytes"]
)
def test_a_full_disk_fails_one_scene_in_one_line_and_keeps_the_others(
    tmp_path, batch, caplog, monkeypatch, place
):
    arguments = [str(argument) for argument in (*batch, "--output", tmp_path / "out")]
    assert inference.main([*arguments, "--limit", "1"]) == 0
    kept = content(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(place, full_disk)
        assert inference.main(arguments) == 1
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 2 and all("No space left on device" in line and "\n" not in line for line in lines)
    assert not any(record.exc_info for record in caplog.records)
    assert content(tmp_path / "out") == kept
    assert inference.main(arguments) == 0


@pytest.mark.parametrize("output", ["/proc/scenes", "/dev/null/scenes"])
def test_an_output_that_cannot_be_made_starts_nothing(batch, caplog, output):
    assert inference.main([str(argument) for argument in (*batch, "--output", output)]) in (1, 2)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert lines and all(output.split("/")[1] in line or "disk refuses" in line for line in lines)
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("report", ["/proc/report.json", "/dev/null/report.json"])
def test_a_report_that_cannot_be_written_is_one_line(folders, caplog, report):
    assert evaluate.main([str(argument) for argument in (*folders, "--output", report)]) == 2
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert f"--output {report}: expected to write the report, the disk refuses" in line and "\n" not in line
