"""Schedules of the learning rate: factors on the rates of the optimiser."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from trellis_modules.config import NamedConfig, build, check_range, lookup


class Schedule(Protocol):
    """What the learning rates are multiplied with."""

    def factor(self, step: int, progress: float) -> float:
        """The factor of a step.

        Args:
            step: 0-based.
            progress: part of the whole run that is done, 0 to 1, in steps or in seconds.
        """
        ...


@dataclass(frozen=True)
class Constant:
    """The rates as they are given."""

    def factor(self, step: int, progress: float) -> float:
        """1; see `Schedule.factor`."""
        return 1.0


@dataclass(frozen=True)
class LinearWarmup:
    """A linear rise over the first steps, then constant."""

    warmup_steps: int

    def __post_init__(self) -> None:
        check_range("warmup_steps", self.warmup_steps, 0)

    def factor(self, step: int, progress: float) -> float:
        """(step + 1) / warmup_steps up to 1; see `Schedule.factor`."""
        return min(1.0, (step + 1) / max(1, self.warmup_steps))


@dataclass(frozen=True)
class WarmupCosine:
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
        """See `Schedule.factor`."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        decayed = min(max(1 - (1 - progress) / self.decay_fraction, 0.0), 1.0) if self.decay_fraction else 0.0
        return warm * 0.5 * (1 + math.cos(math.pi * decayed))


SCHEDULES: Mapping[str, type[Schedule]] = {
    "LinearWarmupLRScheduler": LinearWarmup,
    "WarmupCosineLRScheduler": WarmupCosine,
}


def build_schedule(named: NamedConfig | None) -> Schedule:
    """The schedule of ``trainer.lr_scheduler``; None keeps the rates.

    Raises:
        ConfigError: the name or an argument is unknown or wrong.
    """
    if named is None:
        return Constant()
    kind = lookup(SCHEDULES, named.name, "trainer.lr_scheduler")
    return build(kind, named.args, f"trainer.lr_scheduler {named.name}")
