"""Optimisers, the groups of parameters that they treat alike, and their learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from safe_files.regular import shown
from scenegen.trainers.freezing import compile_pattern
from scenegen.trainers.loop_config import OptimizerConfig
from scenegen.trainers.schedules import build_schedule
from trellis_modules.config import ConfigError, NamedConfig, lookup

OPTIMIZERS: Mapping[str, type[torch.optim.Optimizer]] = {
    kind.__name__: kind
    for kind in (
        torch.optim.Adam,
        torch.optim.AdamW,
        torch.optim.Adamax,
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.RMSprop,
        torch.optim.SGD,
    )
}

_FUSED = ("Adam", "AdamW", "SGD")  # have one kernel for all tensors, which can leave a step out by itself


@dataclass(frozen=True)
class TrainedGroup:
    """Trained parameters that the optimiser treats alike.

    Attributes:
        names: of the parameters, as the objective has them.
        parameters: in the same order.
        args: of the optimiser, for these alone.
    """

    names: tuple[str, ...]
    parameters: tuple[nn.Parameter, ...]
    args: Mapping[str, Any]


def trained_groups(
    named: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig
) -> tuple[TrainedGroup, ...]:
    """Sort the trained parameters into the groups of ``trainer.optimizer``; the first fitting regex counts.

    Args:
        named: names and parameters, frozen ones too.
        config: parameters that no regex finds are a last group of their own.

    Raises:
        ConfigError: a regex is none or fits no trained parameter that is left, or nothing is trained.
    """
    where = "trainer.optimizer.param_groups"
    patterns = [compile_pattern(group.regex, where) for group in config.param_groups]
    found: list[list[tuple[str, nn.Parameter]]] = [[] for _ in [*patterns, None]]
    for name, parameter in named:
        if parameter.requires_grad:
            fitting = (i for i, pattern in enumerate(patterns) if pattern.search(name))
            found[next(fitting, -1)].append((name, parameter))
    for members, group in zip(found, config.param_groups):
        if not members:
            raise ConfigError(
                f"{where}: expected a regular expression that fits a trained parameter, got "
                f"{shown(group.regex)}, which fits none that no group before it fits"
            )
    if not any(found):
        raise ConfigError("trainer: expected a parameter that is trained, every one is frozen")
    args = [*(group.args for group in config.param_groups), {}]
    return tuple(
        TrainedGroup(tuple(n for n, _ in members), tuple(p for _, p in members), own)
        for members, own in zip(found, args, strict=True)
        if members
    )


def build_optimizer(
    config: OptimizerConfig, groups: Sequence[TrainedGroup], masters: Sequence[Sequence[Tensor]]
) -> torch.optim.Optimizer:
    """The optimiser of ``trainer.optimizer``.

    Args:
        config: its class and arguments.
        groups: what is trained.
        masters: for each group the tensors that the optimiser changes, see `scenegen.trainers.precision`.

    Raises:
        ConfigError: the class or an argument is unknown or wrong.
    """
    kind = lookup(OPTIMIZERS, config.name, "trainer.optimizer")
    given = [{"params": list(part), **group.args} for group, part in zip(groups, masters, strict=True)]
    fused = {"fused": True} if config.name in _FUSED else {}
    try:
        return kind(given, **{**fused, **config.args})
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"trainer.optimizer {config.name}: {error}") from error


def step_unless(broken: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step of the optimiser, unless gradients are broken: weights and moments then stay as they are.

    Args:
        broken: float32 scalar, 1 where a gradient is not finite, else 0. A fused optimiser looks at it on the
            device, any other waits for it.
        optimizer: its gradients are set.
    """
    if getattr(optimizer, "_step_supports_amp_scaling", False):
        optimizer.grad_scale, optimizer.found_inf = None, broken
        optimizer.step()
        del optimizer.grad_scale, optimizer.found_inf
    elif not broken.item():
        optimizer.step()


class LearningRates:
    """Sets the learning rates of an optimiser by a schedule that is a function of the step alone."""

    def __init__(self, optimizer: torch.optim.Optimizer, lr_scheduler: NamedConfig | None) -> None:
        """Take the rates that the optimiser has now as those that the schedule changes.

        Raises:
            ConfigError: the schedule or an argument of it is unknown or wrong.
        """
        self._optimizer = optimizer
        self._initial = [group["lr"] for group in optimizer.param_groups]
        self._schedule = build_schedule(lr_scheduler, self._initial)

    def set(self, step: int, progress: float) -> float:
        """Set the rates of a step; returns that of the last group.

        Args:
            step: 0-based.
            progress: part of the whole run that is done, 0 to 1, in steps or in seconds.
        """
        rates = self._schedule.rates(self._initial, step, progress)
        for group, rate in zip(self._optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        return rates[-1]
