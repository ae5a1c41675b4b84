"""Rates and overhead of engines: their numbers, and what is refused."""

import json

import pytest

from benchmarks.batch_scaling import main, steady_rate


def test_loading_does_not_count():
    ends = [100.0, 101.0, 103.0, 105.0, 107.0, 109.0]
    lines = [{"status": "done", "time": end} for end in ends] + [{"status": "failed", "time": 500.0}]
    assert steady_rate(lines, 2) == pytest.approx(4 / 8)
    with pytest.raises(ValueError, match="expected at least 9 scenes for 3 workers, got 6"):
        steady_rate(lines, 3)


def test_overhead_is_told_as_json(capsys):
    assert main(["overhead", "--tasks", "200", "--workers", "1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["tasks"] == 200 and 0 < told["ms_per_task"] < 50


def test_scenes_need_an_input(capsys):
    with pytest.raises(SystemExit):
        main(["scenes"])
    assert "--input: expected the folder of scenes" in capsys.readouterr().err
