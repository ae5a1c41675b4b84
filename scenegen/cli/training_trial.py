"""What ``train --tryrun`` and ``train --profile`` tell."""

from __future__ import annotations

from scenegen.trainers.experiment import Experiment
from scenegen.trainers.reporting import duration_text
from scenegen.trainers.trainer import Trainer
from scenegen.trainers.trial import TRIED_STEPS, count_parameters, profile_steps, try_steps
from scenegen.trainers.without_effect import without_effect

PROFILE_FILE = "profile/trace.json"


def tell_trial(trainer: Trainer, experiment: Experiment) -> int:
    """Take some steps and print sizes, memory and times; returns the exit status."""
    trial = try_steps(trainer)
    if not trainer.world.is_first:
        return 0
    for name, network in trainer.objective.networks.items():
        trained, frozen = count_parameters(network)
        if trained or frozen:
            print(f"{name}: {_millions(trained)} parameters trained, {_millions(frozen)} frozen")
    print(f"data: {experiment.dataset.name}")
    print(f"processes: {trainer.world.size} on {trainer.device.type}, precision {trainer.precision}")
    where = "GPU" if trainer.device.type == "cuda" else "process"
    print(f"memory: {trial.memory_gib:.2f} GiB at most, of the {where}")
    print(f"step: {trial.step_s:.3g} s, mean of {TRIED_STEPS - 1} after the first of {trial.first_s:.3g} s")
    steps = experiment.loop.max_steps
    print(f"run: {duration_text(trial.step_s * steps)} for {steps} steps")
    for line in without_effect(experiment):
        print(line)
    return 0


def tell_profile(trainer: Trainer) -> int:
    """Write a trace of some steps and print what took longest; returns the exit status."""
    path = trainer.output_dir / PROFILE_FILE
    if not trainer.world.is_first:
        path = path.with_name(f"trace_rank{trainer.world.rank}.json")
    table = profile_steps(trainer, path)
    if trainer.world.is_first:
        print(table)
        print(f"{path}: open it at https://ui.perfetto.dev or chrome://tracing")
    return 0


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count:,}"
