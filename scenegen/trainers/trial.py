"""Some steps of a run that count for nothing: how long they take, how much memory, and where time goes."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from scenegen.trainers.reporting import peak_memory_gib
from scenegen.trainers.trainer import Trainer
from trellis_modules.files import atomic_write

TRIED_STEPS, PROFILED_STEPS, _WARM_UP_STEPS = 5, 3, 2


@dataclass(frozen=True)
class Trial:
    """What some steps took.

    Attributes:
        first_s: seconds of the first step, which makes everything ready.
        step_s: of the others, each, data included.
        memory_gib: the most that was in use: on a GPU, elsewhere of the process.
    """

    first_s: float
    step_s: float
    memory_gib: float


def try_steps(trainer: Trainer, count: int = TRIED_STEPS) -> Trial:
    """Do some steps in memory alone: nothing is saved. All processes must call this together.

    Args:
        trainer: ready to train; its networks are changed.
        count: two or more.
    """
    trainer.learner.train_mode()
    times = []
    for number in range(count):
        start = time.perf_counter()
        _step(trainer, number)
        _wait(trainer.device)
        times.append(time.perf_counter() - start)
    step_s = sum(times[1:]) / (count - 1)
    return Trial(times[0], step_s, peak_memory_gib(trainer.device))


def profile_steps(trainer: Trainer, path: Path, count: int = PROFILED_STEPS) -> str:
    """Record where the time of some steps goes, as `try_steps` does them.

    Args:
        trainer: ready to train; its networks are changed.
        path: of the trace, JSON for chrome://tracing or Perfetto.
        count: steps in the trace, after some that make everything ready.

    Returns:
        A table of the operations that took longest.

    Raises:
        OSError: the disk refuses.
    """
    trainer.learner.train_mode()
    for number in range(_WARM_UP_STEPS):
        _step(trainer, number)
    on_gpu = trainer.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, record_shapes=True) as profiler:
        for number in range(count):
            with record_function(f"step {number}"):
                _step(trainer, _WARM_UP_STEPS + number)
        _wait(trainer.device)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        profiler.export_chrome_trace(str(temporary))
    order = "self_cuda_time_total" if on_gpu else "self_cpu_time_total"
    return profiler.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=40)


def _step(trainer: Trainer, number: int) -> None:
    """One step: the batches of this process, gradients, and the optimiser."""
    learner, world = trainer.learner, trainer.world
    slots = world.size * trainer.config.batch_split
    own = range(world.rank, slots, world.size)
    learner.start_step()
    decisions = trainer.objective.decide(torch.Generator().manual_seed(number))
    for slot in own:
        batch = trainer.source.batch(number, slot, slots)
        learner.add_gradients(batch, number * slots + slot, decisions, slot == own[-1])
    learner.finish_step(number, 0.0)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """Numbers of a network that are trained, and that are not."""
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return trained, sum(p.numel() for p in network.parameters()) - trained


def model_summary(network: nn.Module) -> str:
    """A table of the parameters of a network: name, shape, dtype and whether it is trained; then totals."""
    rows = [("name", "shape", "dtype", "trained")]
    rows += [
        (name, str(tuple(p.shape)), str(p.dtype).removeprefix("torch."), "yes" if p.requires_grad else "no")
        for name, p in network.named_parameters()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows]
    trained, frozen = count_parameters(network)
    return "\n".join([*lines, "", f"parameters: {trained + frozen:,}", f"trained: {trained:,}"]) + "\n"
