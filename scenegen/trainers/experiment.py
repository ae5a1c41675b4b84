"""Experiments: which networks are built, from which weights they start, and what they are trained for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import nn

from safe_files.regular import shown
from scenegen.datasets.source import BatchSource, SourceOptions
from scenegen.models.registry import build_model
from scenegen.synthesis.sources.registry import SOURCES, build_source
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.geometry_encoder import GeometryEncoderConfig, GeometryEncoderObjective
from scenegen.trainers.objectives.image_encoder import ImageEncoderConfig, ImageEncoderObjective
from scenegen.trainers.objectives.scene_flow import SceneFlowConfig, SceneFlowObjective
from scenegen.trainers.objectives.structure_vae import StructureVaeConfig, StructureVaeObjective
from scenegen.trainers.objectives.structured_latent_flow import (
    StructuredLatentFlowConfig,
    StructuredLatentFlowObjective,
)
from scenegen.trainers.objectives.structured_latent_vae import (
    StructuredLatentVaeConfig,
    StructuredLatentVaeObjective,
)
from scenegen.trainers.stages import require_network
from scenegen.trainers.trainer import TrainerConfig
from trellis_modules.checkpoint import CheckpointError, find_weights, load_state, read_state
from trellis_modules.config import ConfigError, NamedConfig, build, check_range, load_json, lookup

#: objective name -> (its class, its configuration); the class is called with the models and the configuration
OBJECTIVES: Mapping[str, tuple[type[Objective], type]] = {
    "structure_vae": (StructureVaeObjective, StructureVaeConfig),
    "geometry_encoder": (GeometryEncoderObjective, GeometryEncoderConfig),
    "image_encoder": (ImageEncoderObjective, ImageEncoderConfig),
    "scene_flow": (SceneFlowObjective, SceneFlowConfig),
    "structured_latent_vae": (StructuredLatentVaeObjective, StructuredLatentVaeConfig),
    "structured_latent_flow": (StructuredLatentFlowObjective, StructuredLatentFlowConfig),
}


_SHARE = ("p_", "sigma_min")


@dataclass(frozen=True)
class ExperimentConfig:
    """One JSON file of ``configs/``."""

    objective: NamedConfig
    models: dict[str, NamedConfig]
    source: NamedConfig  # of `scenegen.synthesis.sources.registry`
    trainer: TrainerConfig
    start_from: dict[str, str] = field(default_factory=dict)  # model -> checkpoint stem holding its weights
    frozen: tuple[str, ...] = ()  # starts of tensor names, the model's first, that are not trained


def load_experiment(path: Path) -> ExperimentConfig:
    """Read and check a configuration file.

    Raises:
        ConfigError: a key is unknown, missing, or of the wrong type.
    """
    raw = load_json(path)
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{path}: expected an experiment as an object, got {type(raw).__name__}")
    return build(ExperimentConfig, raw, str(path))


def load_superset(module: nn.Module, stem: Path) -> None:
    """Load a module from a checkpoint with all its tensors and perhaps more (say an encoder with its heads).

    Args:
        module: changed in place.
        stem: checkpoint path without suffix.

    Raises:
        CheckpointError: the file or a tensor is missing.
    """
    path = find_weights(stem)
    state = read_state(path)
    wanted = list(module.state_dict())
    if missing := [name for name in wanted if name not in state]:
        raise CheckpointError(
            f"{path}: tensor {missing[0]!r} is missing; it belongs to another configuration"
        )
    load_state(module, {name: state[name] for name in wanted}, str(path))


def freeze(models: Mapping[str, nn.Module], starts: Sequence[str]) -> None:
    """Exclude tensors from training whose name, ``model.tensor``, starts with one of ``starts``.

    Raises:
        ConfigError: a start fits no tensor.
    """
    named = {f"{role}.{name}": p for role, model in models.items() for name, p in model.named_parameters()}
    for start in starts:
        chosen = [parameter for name, parameter in named.items() if name.startswith(start)]
        if not chosen:
            raise ConfigError(f"frozen: expected the start of a tensor name, got {start!r}; no tensor has it")
        for parameter in chosen:
            parameter.requires_grad_(False)


def build_experiment(config: ExperimentConfig, options: SourceOptions) -> tuple[Objective, BatchSource]:
    """Build the objective and the source that it learns from.

    Raises:
        ConfigError: something has an unknown name or wrong arguments, or the source makes other batches than
            the objective learns from.
        CheckpointError: the weights to start from are missing or do not fit.
    """
    objective_type, _ = lookup(OBJECTIVES, config.objective.name, "objective")
    made = lookup(SOURCES, config.source.name, "source").makes
    if not issubclass(made, objective_type.batch_type):
        fitting = [
            name for name, kind in SOURCES.items() if issubclass(kind.makes, objective_type.batch_type)
        ]
        raise ConfigError(
            f"source: expected {' or '.join(fitting)}, from which {config.objective.name} learns, "
            f"got {config.source.name}"
        )
    objective = build_objective(config)
    return objective, build_source(config.source, options)


def build_objective(config: ExperimentConfig) -> Objective:
    """Build the models, load what they start from, and wrap them into the objective."""
    models = {role: build_model(named, role) for role, named in config.models.items()}
    for role, stem in config.start_from.items():
        model = lookup(models, role, "start_from")
        require_network(Path(stem), f"start_from: {role}")
        load_superset(model, Path(stem))
    freeze(models, config.frozen)
    kind, settings = lookup(OBJECTIVES, config.objective.name, "objective")
    wanted = [name for name in inspect.signature(kind).parameters if name != "config"]
    if sorted(models) != sorted(wanted):
        raise ConfigError(
            f"models: expected {', '.join(wanted)} for the objective {config.objective.name}, got "
            f"{', '.join(map(shown, models)) or 'none'}"
        )
    chosen = build(settings, config.objective.args, "objective")
    check_weights(chosen)
    return kind(**models, config=chosen)


def check_weights(config: Any) -> None:
    """Check the numbers of an objective's configuration: weights, shares (``p_...``) and counts.

    Raises:
        ConfigError: a number is negative or not finite, or a share above 1.
    """
    for field_ in fields(config):
        value = getattr(config, field_.name)
        if isinstance(value, int | float):
            highest = 1 if field_.name.startswith(_SHARE) else math.inf
            try:
                check_range(field_.name, value, 0, highest)
            except ValueError as error:
                raise ConfigError(f"objective: {error}") from error
