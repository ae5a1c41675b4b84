"""Which parameters are trained: regular expressions of their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import nn

from safe_files.regular import shown
from trellis_modules.config import ConfigError


def named_parameters(models: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters of networks by ``role.name``."""
    return {f"{role}.{name}": p for role, model in models.items() for name, p in model.named_parameters()}


def compile_pattern(regex: str, where: str) -> re.Pattern[str]:
    """A regular expression of a configuration.

    Raises:
        ConfigError: it is none; the message begins with ``where``.
    """
    try:
        return re.compile(regex)
    except re.error as error:
        raise ConfigError(f"{where}: expected a regular expression, got {shown(regex)} ({error})") from error


def freeze(
    models: Mapping[str, nn.Module],
    freeze_weights: Sequence[str] | None = None,
    unfreeze_weights: Sequence[str] | None = None,
) -> None:
    """Decide which parameters are trained, before optimiser, averages and processes see them.

    Args:
        models: networks by role; changed in place.
        freeze_weights: what one of these regular expressions finds in ``role.name`` is not trained.
        unfreeze_weights: only what one of these finds is trained; they count alone where both are given.

    Raises:
        ConfigError: an expression is none or finds no parameter, or nothing is left to train.

    Source: released training configurations.
    """
    named = named_parameters(models)
    if unfreeze_weights is not None:
        chosen = _found(named, unfreeze_weights, "trainer.unfreeze_weights")
        for name, parameter in named.items():
            parameter.requires_grad_(name in chosen)
    elif freeze_weights is not None:
        for name in _found(named, freeze_weights, "trainer.freeze_weights"):
            named[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in named.values()):
        given = "freeze_weights" if unfreeze_weights is None else "unfreeze_weights"
        raise ConfigError(f"trainer.{given}: expected something left to train, every parameter is frozen")


def _found(named: Mapping[str, nn.Parameter], regexes: Sequence[str], where: str) -> set[str]:
    found: set[str] = set()
    for regex in regexes:
        pattern = compile_pattern(regex, where)
        fitting = {name for name in named if pattern.search(name)}
        if not fitting:
            raise ConfigError(
                f"{where}: expected a regular expression that fits a parameter, got {shown(regex)}, which "
                f"fits none; names are like {shown(next(iter(named), ''))}"
            )
        found |= fitting
    return found
