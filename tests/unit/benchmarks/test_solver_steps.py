"""The measurement of solvers and steps: its commands, its table, and that it goes on where it ended."""

import json
from dataclasses import replace

import pytest

from benchmarks import solver_steps
from scenegen.checkpoints.roles import DECODER_ROLE, FEW_STEPS_FLOW_ROLE, FLOW_ROLE
from scenegen.checkpoints.schema import PipelineConfig
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.registry import SamplerConfig

CONFIG = PipelineConfig(
    models={FLOW_ROLE: "a", FEW_STEPS_FLOW_ROLE: "b", DECODER_ROLE: "c"},
    sparse_structure_sampler=SamplerConfig(
        "FlowEulerGuidanceIntervalSamplerVGGT", params=SamplingParams(25, 3.0, 5.0, (0.5, 1.0))
    ),
    few_step_sampler=SamplerConfig("FlowEulerSamplerVGGT", params=SamplingParams(4, 3.0, 0.0)),
    image_cond_model="d",
    vggt_model="e",
)


@pytest.mark.parametrize(
    ("solver", "steps", "expected"),
    [(None, None, 44), ("euler", 4, 8), ("multistep", 4, 8), ("midpoint", 4, 15), ("heun", 4, 14)],
)
def test_passes_are_counted_with_those_of_guidance(solver, steps, expected):
    assert solver_steps.passes(solver_steps.Setting(solver, steps).params(CONFIG)) == expected
    assert solver_steps.passes(solver_steps.Setting(few_steps=True).params(CONFIG)) == 4


def describe(folder, config):
    """A folder with the description of a checkpoint."""
    folder.mkdir()
    named = config.to_named()
    (folder / "pipeline.json").write_text(json.dumps({"name": named.name, "args": named.args}))
    return str(folder)


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
    usual = replace(CONFIG, models={FLOW_ROLE: "a", DECODER_ROLE: "c"}, few_step_sampler=None)
    options += ["--solvers", "multistep", "--steps", "8", "--limit", "2"]
    options += ["--checkpoint", describe(tmp_path / "toy", usual)]
    (tmp_path / "out").mkdir()
    assert solver_steps.main(options) == 0
    assert [command[0] for command in commands] == ["inference.py", "evaluate.py"] * 2
    assert "--solver" not in commands[0] and commands[2][-4:] == ["--solver", "multistep", "--steps", "8"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[2].startswith("| euler (own) |") and lines[2].count("0.520") == 4
    assert lines[3].startswith("| multistep | 8 |") and lines[3].count("| 4.00 | 0.540 (+0.020)") == 1
    assert solver_steps.main(options) == 0 and len(commands) == 4  # nothing is made again


def test_a_flow_of_few_steps_has_a_row_and_processes_share_the_work(commands, capsys, tmp_path):
    options = ["--input", str(tmp_path), "--truth", str(tmp_path), "--output", str(tmp_path / "out")]
    options += ["--solvers", "euler", "--steps", "8", "--checkpoint", describe(tmp_path / "toy", CONFIG)]
    (tmp_path / "out").mkdir()
    assert solver_steps.main([*options, "--device", "cuda", "--processes", "8"]) == 0
    predicted, measured = commands[2:4]
    assert predicted[-1] == "--few-steps" and predicted[predicted.index("--device") + 1] == "cuda"
    for command in (predicted, measured):
        assert command[command.index("--workers") + 1] == "8"
        assert command[command.index("--cpus-per-worker") + 1] == "1"
    assert "--few-steps" not in commands[0] + commands[4]
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith("| euler (few steps) | 4 | 4 | 4.00 | 0.540 (+0.020)")
    assert lines[4].startswith("| euler | 8 |")


def test_a_command_that_fails_ends_the_run(monkeypatch, tmp_path):
    monkeypatch.setattr(solver_steps, "run", lambda *command: None)
    options = ["--input", str(tmp_path), "--truth", str(tmp_path), "--output", str(tmp_path)]
    assert solver_steps.main(options) == 1
