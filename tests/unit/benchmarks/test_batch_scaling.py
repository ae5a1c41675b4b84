"""Rates and overhead of engines: their numbers, and what is refused."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks import batch_scaling
from benchmarks.batch_scaling import main, steady_rate


def test_neither_loading_nor_the_last_scenes_count():
    ends = [3.0, 4.0, 7.0, 8.0, 11.0, 12.0, 15.0, 46.0]  # 4 s each on two workers, but the last one
    lines = [{"status": "done", "time": end, "seconds": 4.0} for end in ends[:-1]]
    lines += [{"status": "done", "time": 46.0, "seconds": 34.0}, {"status": "failed", "time": 500.0}]
    made = 3 / 4 + 4 + 3 / 34  # from 4, when both were warm, until 15
    assert steady_rate(lines, 2) == pytest.approx(made / 11)
    with pytest.raises(ValueError, match="expected at least 12 scenes for 3 workers, got 8"):
        steady_rate(lines, 3)


@pytest.fixture
def batches(monkeypatch):
    """What was started; each scene takes 2 s, with two workers 2.5 s."""
    started = []

    def status(command, environment, log, seconds):
        given = dict(zip(command, command[1:]))
        size, names = int(given["--workers"]), sorted(path.name for path in Path(given["--input"]).iterdir())
        started.append((size, names, environment["OMP_NUM_THREADS"], command[-1]))
        log.parent.mkdir(parents=True, exist_ok=True)
        of_one = 1.5 + size / 2
        times = [of_one * (number // size + 1) for number in range(len(names))]
        log.write_text("".join(f'{{"status": "done", "seconds": {of_one}, "time": {t}}}\n' for t in times))
        return 0

    monkeypatch.setattr(batch_scaling, "_status", status)
    return started


def test_numbers_of_workers_are_measured_in_turns_and_once(tmp_path, batches, capsys):
    for name in "ab":
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "photo.png").write_text(name)
    given = ["scenes", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--count", "8"]
    given += ["--cpus-per-worker", "1", "--repeats", "2", "--sizes", "1", "2", "--", "--no-appearance"]
    assert main(given) == 0
    names = [f"{number:04d}" for number in range(8)]
    assert batches == [(size, names, "1", "--no-appearance") for size in (1, 2, 1, 2)]
    assert "| 2 | 0.800 | 0.80 | 2.50 | 2 |" in capsys.readouterr().out
    scenes = sorted((tmp_path / "out" / "scenes").iterdir())
    assert [(scene / "photo.png").read_text() for scene in scenes] == list("abababab")
    batches.clear()
    assert main(given) == 0 and batches == []


def test_a_batch_ends_some_time_after_its_first_scene(tmp_path):
    log = tmp_path / "log"
    forever = f"import time; time.sleep(0.3); open({str(log)!r}, 'w').write('{{}}'); time.sleep(60)"
    start = time.monotonic()
    assert batch_scaling._status([sys.executable, "-c", forever], dict(os.environ), log, 0.5) == 0
    assert 0.7 < time.monotonic() - start < 20
    assert batch_scaling._status([sys.executable, "-c", "exit(3)"], dict(os.environ), log, None) == 3


def test_overhead_is_told_as_json(capsys):
    assert main(["overhead", "--tasks", "200", "--workers", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tasks"] == 200 and 0 < told["ms_per_task"] < 50


def test_scenes_need_an_input(capsys):
    with pytest.raises(SystemExit):
        main(["scenes"])
    assert "--input: expected the folder of scenes" in capsys.readouterr().err
