"""Trainings of the small model beside the logs of the bundled weights, at equal steps and equal rates.

    python -m benchmarks.training_curves --output outputs/curves \\
        --packs data/packs/train.safetensors data/packs/procedural.safetensors \\
        [--stages image_encoder geometry_encoder] [--steps 1500]

The logged trainings had a time limit, over which their learning rates were spread (``train.py --time-limit S
--anneal``). So that a machine of another speed has the same rates at the same steps, a stage of
``configs/small`` is trained by the clock of its log in ``benchmarks/training``: a step takes the seconds that
it took there. What is random on a GPU, and in the making of shapes, differs, so that means over the last
--window records are compared; the exit status is 1 where that of the loss is above the logged one by more
than --tolerance. After SIGTERM what was trained so far is compared; the same command again goes on.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks.released_size import say
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.datasets.source import SourceOptions
from scenegen.trainers.data import DATA, with_batches
from scenegen.trainers.experiment import build_experiment, load_experiment
from scenegen.trainers.logs import LOG_FILE
from scenegen.trainers.trainer import Trainer

LOGS, CONFIGS = Path("benchmarks/training"), Path("configs/small")


@dataclass(frozen=True)
class Stage:
    """A logged training that needs no other stage.

    Attributes:
        limit_s: its time limit, with which the logged learning rates agree best.
        steps: that show what it learns in about two minutes of an H200.
    """

    limit_s: float
    steps: int


STAGES: Mapping[str, Stage] = {
    "image_encoder": Stage(290.0, 1500),
    "geometry_encoder": Stage(290.0, 550),
    "structure_vae": Stage(175.0, 1850),
}
NOT_LEARNT = ("step", "seconds", "grad_norm", "skipped", "lr")

Records = dict[int, dict[str, float]]


class LoggedClock:
    """Tells, after each step of a trainer, how long a logged training had taken for as many."""

    def __init__(self, log: Records) -> None:
        self._log = {0: 0.0} | {step: record["seconds"] for step, record in log.items()}
        self.trainer: Trainer | None = None  # whose steps count; none are done before it is made

    def __call__(self) -> float:
        """Seconds, evenly spread over the steps of a record."""
        done = 0 if self.trainer is None else self.trainer.step
        before = max(step for step in self._log if step <= done)
        after = min((step for step in self._log if step > done), default=before)
        part = (done - before) / (after - before) if after > before else 0.0
        return self._log[before] + part * (self._log[after] - self._log[before])


def main(arguments: list[str] | None = None) -> int:
    """Train and compare; returns the exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    status = 0
    for stage in options.stages:
        log = read_log(LOGS / f"{stage}.jsonl")
        stopped_by = train(options, stage, log)
        if not compare(options, stage, log):
            status = 1
        if stopped_by is not None:
            say(f"stopped by {stopped_by}; the same command again goes on")
            return status
    return status


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--packs", type=Path, nargs="+", required=True, help="mesh packs of the train split")
    parser.add_argument("--output", type=Path, required=True, help="folder of logs and states")
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, default=["image_encoder", "geometry_encoder"],
        help="(image_encoder geometry_encoder)",
    )  # fmt: skip
    parser.add_argument(
        "--configs", type=Path, default=CONFIGS, help="(%(default)s; others to try the benchmark itself)"
    )
    parser.add_argument(
        "--steps", type=positive_int, help="that are trained (by stage: two minutes of an H200)"
    )
    parser.add_argument(
        "--window", type=positive_int, default=5, help="records that are compared (%(default)s)"
    )
    parser.add_argument("--tolerance", type=float, default=0.05, help="of the means (%(default)s)")
    parser.add_argument("--workers", type=positive_int, default=10, help="that compose scenes (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(arguments)


def read_log(path: Path) -> Records:
    """The records of a log by their step."""
    records = (json.loads(line) for line in path.read_text().splitlines())
    return {record["step"]: record for record in records}


def train(options: argparse.Namespace, stage: str, log: Records) -> str | None:
    """Train a stage, or go on with it; returns which signal stopped it, if any did."""
    experiment = load_experiment(options.configs / f"{stage}.json")
    steps = options.steps or STAGES[stage].steps
    every = min(log)
    loop = replace(experiment.loop, max_steps=steps, i_log=every, i_print=every)
    torch.manual_seed(loop.seed)
    device, kind = torch.device(options.device), DATA[experiment.dataset.name]
    files = SourceOptions(device, packs=tuple(options.packs), workers=options.workers)
    objective, source = build_experiment(experiment, with_batches(files, kind, loop, 1))
    clock = LoggedClock(log)
    folder, settings = options.output / stage, experiment.resolved()
    trainer = clock.trainer = Trainer(objective, source, loop, folder, device, clock, settings)
    trainer.resume()
    trainer.run(STAGES[stage].limit_s, anneal=True)
    return trainer.stopped_by


def compare(options: argparse.Namespace, stage: str, log: Records) -> bool:
    """Print both curves, and the means of the window; whether that of the logged loss was reached."""
    trained = read_log(options.output / stage / LOG_FILE)
    steps = [step for step in sorted(log) if step in trained]
    if not steps:
        say(f"{stage}: no step of {LOGS / stage}.jsonl was reached")
        return False
    rates = max(abs(trained[step]["lr"] / log[step]["lr"] - 1) for step in steps)
    say(f"\n## {stage}, {steps[-1]} steps, learning rates within {rates:.2%}\n")
    say("| to step | logged loss | loss | difference |\n|---:|---:|---:|---:|")
    for step in steps:
        say(row(str(step), log[step]["loss"], trained[step]["loss"]))
    window = steps[-options.window :]
    say(f"\n| mean of steps {window[0]} to {window[-1]} | logged | now | difference |\n|---|---:|---:|---:|")
    means = {
        name: [sum(records[step][name] for step in window) / len(window) for records in (log, trained)]
        for name in log[window[-1]]
        if name not in NOT_LEARNT and all(name in trained[step] for step in window)
    }
    for name, (before, now) in means.items():
        say(row(name, before, now))
    before, now = means["loss"]
    reached = now <= before * (1 + options.tolerance)
    say(f"\n{stage}: the logged loss was {'' if reached else 'NOT '}reached within {options.tolerance:.0%}")
    return reached


def row(name: str, before: float, now: float) -> str:
    """A row of a table."""
    difference = f"{now / before - 1:+.1%}" if before else ""
    return f"| {name} | {before:.4f} | {now:.4f} | {difference} |"


if __name__ == "__main__":
    sys.exit(main())
