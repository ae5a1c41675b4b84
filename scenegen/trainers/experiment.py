"""Experiments: which networks are built, what they learn from, and how they are trained."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safe_files.regular import shown
from scenegen.datasets.source import BatchSource, SourceOptions
from scenegen.models.registry import build_model
from scenegen.trainers.data import DATA, build_source
from scenegen.trainers.finetune import find_starts, start_from_checkpoints
from scenegen.trainers.freezing import freeze
from scenegen.trainers.loop_config import LoopConfig
from scenegen.trainers.objective import Objective
from scenegen.trainers.registry import TRAINERS, TrainerKind
from trellis_modules.config import ConfigError, NamedConfig, build, check_range, load_json, lookup, to_json

_SHARE = ("p_", "sigma_min")


@dataclass(frozen=True)
class ExperimentConfig:
    """One JSON file of ``configs/``, in the three sections of released configurations."""

    models: dict[str, NamedConfig]
    dataset: NamedConfig
    trainer: NamedConfig


@dataclass(frozen=True)
class Experiment:
    """A checked experiment.

    Attributes:
        models: networks by role.
        dataset: of `scenegen.trainers.data`.
        trainer: key of `TRAINERS`.
        loop: the part of ``trainer.args`` that every trainer has.
        settings: the rest, of the trainer's own class.
        given: names of the arguments of the trainer that the file has.
    """

    models: Mapping[str, NamedConfig]
    dataset: NamedConfig
    trainer: str
    loop: LoopConfig
    settings: Any
    given: frozenset[str] = frozenset()

    @property
    def kind(self) -> TrainerKind:
        """The trainer."""
        return TRAINERS[self.trainer]

    def resolved(self) -> dict[str, Any]:
        """The experiment as JSON types, with every default of the trainer filled in."""
        arguments = {**to_json(self.loop), **to_json(self.settings)}
        return {
            "models": to_json(self.models),
            "dataset": to_json(self.dataset),
            "trainer": {"name": self.trainer, "args": arguments},
        }


def load_experiment(path: Path) -> Experiment:
    """Read and check a configuration file.

    Raises:
        ConfigError: a key is unknown, missing, or of the wrong type.
    """
    raw = load_json(path)
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: expected an experiment as an object, got {type(raw).__name__}")
    config = build(ExperimentConfig, raw, str(path))
    kind = lookup(TRAINERS, config.trainer.name, f"{path}: trainer")
    loop, settings = _trainer_arguments(kind, config.trainer, str(path))
    given = frozenset(config.trainer.args)
    return Experiment(config.models, config.dataset, config.trainer.name, loop, settings, given)


def _trainer_arguments(kind: TrainerKind, trainer: NamedConfig, where: str) -> tuple[LoopConfig, Any]:
    """Share ``trainer.args`` out between the loop and the trainer's own settings."""
    where = f"{where}: trainer {trainer.name}"
    of_loop, own = (set(inspect.signature(cls).parameters) for cls in (LoopConfig, kind.settings))
    if unknown := sorted(trainer.args.keys() - of_loop - own):
        raise ConfigError(f"{where}: unknown key {shown(unknown[0])}; known: {sorted(of_loop | own)}")
    loop = build(LoopConfig, _with_groups({k: v for k, v in trainer.args.items() if k in of_loop}), where)
    settings = build(kind.settings, {k: v for k, v in trainer.args.items() if k in own}, where)
    _check_numbers(settings, where)
    if loop.cuda_graphs and (reason := kind.not_recorded(settings)):
        raise ConfigError(
            f"trainer.cuda_graphs: expected false with {trainer.name}, {reason}, got true: its passes "
            "cannot be recorded; leave it out"
        )
    return loop, settings


def _with_groups(arguments: dict[str, Any]) -> dict[str, Any]:
    """The loop's arguments, with those of parameter groups apart from their ``regex``.

    Released configurations write them beside it, as optimisers of PyTorch take them.
    """
    optimizer = arguments.get("optimizer")
    groups = optimizer.get("param_groups") if isinstance(optimizer, Mapping) else None
    if not isinstance(groups, list):
        return arguments
    apart = [
        {"args": {k: v for k, v in group.items() if k != "regex"}, **_only(group, "regex")}
        if isinstance(group, Mapping) and "args" not in group
        else group
        for group in groups
    ]
    return {**arguments, "optimizer": {**optimizer, "param_groups": apart}}


def _only(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {name: values[name]} if name in values else {}


def _check_numbers(settings: Any, where: str) -> None:
    """Check the numbers of a trainer's settings: weights, shares (``p_...``) and counts."""
    for field_ in fields(settings):
        value = getattr(settings, field_.name)
        if isinstance(value, int | float):
            highest = 1 if field_.name.startswith(_SHARE) else math.inf
            try:
                check_range(field_.name, value, 0, highest)
            except ValueError as error:
                raise ConfigError(f"{where}: {error}") from error


def build_experiment(
    experiment: Experiment, options: SourceOptions, from_checkpoints: bool = True
) -> tuple[Objective, BatchSource]:
    """Build the objective and the source that it learns from.

    Args:
        experiment: what to build.
        options: of the source.
        from_checkpoints: see `build_objective`.

    Raises:
        ConfigError: something has an unknown name or wrong arguments, or the dataset makes other batches than
            the objective learns from.
        CheckpointError: the weights to start from are missing or do not fit.
    """
    wanted = experiment.kind.batch_type
    made = lookup(DATA, experiment.dataset.name, "dataset").makes
    if not issubclass(made, wanted):
        fitting = [name for name, kind in DATA.items() if issubclass(kind.makes, wanted)]
        raise ConfigError(
            f"dataset: expected {' or '.join(fitting)}, from which {experiment.trainer} learns, "
            f"got {shown(experiment.dataset.name)}"
        )
    objective = build_objective(experiment, from_checkpoints)
    return objective, build_source(experiment.dataset, options)


def build_objective(experiment: Experiment, from_checkpoints: bool = True) -> Objective:
    """Build the models, load what they start from, freeze, and wrap them into the objective.

    Args:
        experiment: what to build.
        from_checkpoints: False leaves the weights as they are drawn: a saved state takes their place.

    Raises:
        ConfigError, CheckpointError: see `build_experiment`.
    """
    kind, loop = experiment.kind, experiment.loop
    if sorted(experiment.models) != sorted(kind.roles):
        raise ConfigError(
            f"models: expected {', '.join(kind.roles)} for the trainer {experiment.trainer}, got "
            f"{', '.join(map(shown, experiment.models)) or 'none'}"
        )
    starts = find_starts(experiment.models, loop) if from_checkpoints else {}
    models = {role: build_model(named, role) for role, named in experiment.models.items()}
    if from_checkpoints:
        start_from_checkpoints(models, starts, loop)
    freeze(models, loop.freeze_weights, loop.unfreeze_weights)
    return kind.objective(**models, config=experiment.settings)
