"""The simulated queue against what queueing theory says of it, and its inputs."""

import json

import pytest

from benchmarks.queue_simulator import drawing, main, simulate, worker_kind


def test_waiting_times_are_those_of_theory():
    """One worker, fixed seconds S, load r: the mean wait is r S / (2 (1 - r)) (Pollaczek and Khinchine)."""
    result = simulate([10.0], 0.5 * 360, [worker_kind("cpu=1")], 2000, seed=1)
    assert sum(result.waits) / len(result.waits) == pytest.approx(0.5 * 10 / (2 * 0.5), rel=0.05)
    assert result.busy["cpu"] / result.end == pytest.approx(0.5, rel=0.02)


def test_faster_workers_are_taken_first_and_queues_grow_where_there_are_too_few():
    kinds = [worker_kind("fast=1"), worker_kind("slow=1:0.1")]
    result = simulate([1.0], 60, kinds, 50, seed=2)
    assert result.busy["fast"] > result.busy["slow"]
    too_few = simulate([100.0], 72, [worker_kind("cpu=1")], 50, seed=3)
    assert max(length for _, length in too_few.lengths) > 1500
    assert drawing(too_few).count("<polyline") == 1


def test_seconds_come_from_a_task_log(tmp_path, capsys):
    log = tmp_path / "tasks.jsonl"
    log.write_text(json.dumps({"status": "done", "seconds": 5.0}) + "\n" + '{"status": "fai')
    given = ["--per-hour", "100", "--workers", "cpu=1", "--hours", "10"]
    assert main(["--task-log", str(log), *given, "--svg", str(tmp_path / "q.svg")]) == 0
    assert "tasks in 10" in capsys.readouterr().out and (tmp_path / "q.svg").read_text().startswith("<svg")
    log.write_text("")
    assert main(["--task-log", str(log), *given]) == 1
    assert "expected tasks that are done, found none" in capsys.readouterr().err
