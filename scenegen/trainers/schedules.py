"""Schedules of the learning rates, as functions of the step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from safe_files.regular import shown
from trellis_modules.config import ConfigError, NamedConfig, build, check_range, lookup


class Schedule(ABC):
    """What becomes of the learning rates; a function of the step, so that a resumed run goes on exactly."""

    @abstractmethod
    def rates(self, initial: Sequence[float], step: int, progress: float) -> list[float]:
        """The learning rates of a step.

        Args:
            initial: rates of the optimiser's groups as they are configured, always the same.
            step: 0-based.
            progress: part of the whole run that is done, 0 to 1, in steps or in seconds.
        """


class FactorSchedule(Schedule):
    """All rates are multiplied with one number."""

    @abstractmethod
    def factor(self, step: int, progress: float) -> float:
        """The factor of a step; for the arguments see `Schedule.rates`."""

    def rates(self, initial: Sequence[float], step: int, progress: float) -> list[float]:
        """See `Schedule.rates`."""
        return [rate * self.factor(step, progress) for rate in initial]


@dataclass(frozen=True)
class Constant(FactorSchedule):
    """The rates as they are given."""

    def factor(self, step: int, progress: float) -> float:
        """1; see `FactorSchedule.factor`."""
        return 1.0


@dataclass(frozen=True)
class LinearWarmup(FactorSchedule):
    """A linear rise over the first steps, then constant."""

    warmup_steps: int

    def __post_init__(self) -> None:
        check_range("warmup_steps", self.warmup_steps, 0)

    def factor(self, step: int, progress: float) -> float:
        """(step + 1) / warmup_steps up to 1; see `FactorSchedule.factor`."""
        return min(1.0, (step + 1) / max(1, self.warmup_steps))


@dataclass(frozen=True)
class WarmupCosine(FactorSchedule):
    """A linear rise over the first steps, a constant part, and a cosine to zero at the end of the run.

    Attributes:
        decay_fraction: of the run that the cosine takes.
    """

    warmup_steps: int = 100
    decay_fraction: float = 1.0

    def __post_init__(self) -> None:
        check_range("warmup_steps", self.warmup_steps, 0)
        check_range("decay_fraction", self.decay_fraction, 0, 1)

    def factor(self, step: int, progress: float) -> float:
        """See `FactorSchedule.factor`."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        decayed = min(max(1 - (1 - progress) / self.decay_fraction, 0.0), 1.0) if self.decay_fraction else 0.0
        return warm * 0.5 * (1 + math.cos(math.pi * decayed))


class TorchSchedule(Schedule):
    """A schedule of ``torch.optim.lr_scheduler``, followed step by step from the first one on."""

    def __init__(self, kind: type[LRScheduler], args: Mapping[str, Any]) -> None:
        self._make = lambda optimizer: kind(optimizer, **args)
        self._step = -1
        self._scheduler: LRScheduler | None = None

    def rates(self, initial: Sequence[float], step: int, progress: float) -> list[float]:
        """See `Schedule.rates`; the first call of a resumed run passes all steps before it."""
        if self._scheduler is None or step < self._step:
            groups = [{"params": [torch.zeros(())], "lr": rate} for rate in initial]
            self._scheduler, self._step = self._make(torch.optim.SGD(groups)), 0
        while self._step < step:
            self._scheduler.optimizer.step()
            self._scheduler.step()
            self._step += 1
        return [group["lr"] for group in self._scheduler.optimizer.param_groups]


SCHEDULES: Mapping[str, type[FactorSchedule]] = {
    "LinearWarmupLRScheduler": LinearWarmup,
    "WarmupCosineLRScheduler": WarmupCosine,
}
TORCH_SCHEDULES: Mapping[str, type[LRScheduler]] = {
    kind.__name__: kind
    for kind in (
        lr_scheduler.ConstantLR,
        lr_scheduler.CosineAnnealingLR,
        lr_scheduler.CosineAnnealingWarmRestarts,
        lr_scheduler.ExponentialLR,
        lr_scheduler.LinearLR,
        lr_scheduler.MultiStepLR,
        lr_scheduler.PolynomialLR,
        lr_scheduler.StepLR,
    )
}


def build_schedule(named: NamedConfig | None, initial: Sequence[float] = (1.0,)) -> Schedule:
    """The schedule of ``trainer.lr_scheduler``; None keeps the rates.

    Args:
        named: one of ours, or a class of ``torch.optim.lr_scheduler`` that is a function of the step.
        initial: learning rates of the optimiser's groups, to try the schedule with.

    Raises:
        ConfigError: the name or an argument is unknown or wrong.
    """
    if named is None:
        return Constant()
    where = f"trainer.lr_scheduler {shown(named.name)}"
    kind = lookup({**SCHEDULES, **TORCH_SCHEDULES}, named.name, "trainer.lr_scheduler")
    if named.name in SCHEDULES:
        return build(kind, named.args, where)
    schedule = TorchSchedule(kind, named.args)
    try:
        schedule.rates(initial, 1, 0.0)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"{where}: {error}") from error
    return schedule
