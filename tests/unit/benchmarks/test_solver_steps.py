"""The measurement of solvers and steps: its commands, its table, and that it goes on where it ended."""

import json

import pytest

from benchmarks import solver_steps
from trellis_modules.samplers import SamplingParams

OWN = SamplingParams(25, 3.0, 5.0, (0.5, 1.0))


@pytest.mark.parametrize(
    ("solver", "steps", "expected"),
    [(None, None, 44), ("euler", 4, 8), ("multistep", 4, 8), ("midpoint", 4, 15), ("heun", 4, 14)],
)
def test_passes_are_counted_with_those_of_guidance(solver, steps, expected):
    assert solver_steps.passes(solver_steps.Setting(solver, steps).params(OWN)) == expected


@pytest.fixture
def commands(monkeypatch):
    """Commands that are run, with what they would leave and print."""
    found = []

    def run(*command):
        found.append([str(part) for part in command])
        if command[0] == "inference.py":
            return json.dumps({"scenes": [{"seconds": {"sample": 3.0}}, {"seconds": {"sample": 5.0}}]})
        value = 0.5 + 0.01 * len(found)
        summary = {name: {"mean": value} for name in solver_steps.FIGURES}
        report = command[command.index("--output") + 1]
        report.write_text(json.dumps({"protocols": {"corrected": {"summary": {"all": summary}}}}))
        return ""

    monkeypatch.setattr(solver_steps, "run", run)
    monkeypatch.setattr(solver_steps, "read_report", lambda path: json.loads(path.read_text()))
    return found


def test_every_setting_is_made_measured_and_compared_with_the_own_one(commands, capsys, tmp_path):
    options = ["--input", str(tmp_path), "--truth", str(tmp_path), "--output", str(tmp_path / "out")]
    options += ["--solvers", "multistep", "--steps", "8", "--limit", "2"]
    (tmp_path / "out").mkdir()
    assert solver_steps.main(options) == 0
    assert [command[0] for command in commands] == ["inference.py", "evaluate.py"] * 2
    assert "--solver" not in commands[0] and commands[2][-4:] == ["--solver", "multistep", "--steps", "8"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[2].startswith("| euler (own) |") and lines[2].count("0.520") == 4
    assert lines[3].startswith("| multistep | 8 |") and lines[3].count("| 4.00 | 0.540 (+0.020)") == 1
    assert solver_steps.main(options) == 0 and len(commands) == 4  # nothing is made again


def test_a_command_that_fails_ends_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(solver_steps, "run", lambda *command: None)
    options = ["--input", str(tmp_path), "--truth", str(tmp_path), "--output", str(tmp_path)]
    assert solver_steps.main(options) == 1
