"""Checkpoint names of every network of the project: object, scene and condition encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scenegen.models import SceneFlowModel, SceneFlowModelConfig
from trellis_modules import checkpoint
from trellis_modules.config import NamedConfig, build
from trellis_modules.models import MODELS as OBJECT_MODELS
from trellis_modules.models import (
    ModelBuilder,
    SparseStructureFlowConfig,
    SparseStructureFlowModel,
    from_arguments,
)
from trellis_modules.models import build_model as build_model_from
from vggt.layers.vision_transformer import VisionTransformer
from vggt.models.vggt import VGGT


def build_sparse_structure_flow(args: Mapping[str, Any], where: str) -> nn.Module:
    """The flow model a released configuration describes: scene attention when ``use_global`` is true.

    Without scene attention a configuration may still carry scene arguments; they are checked, no more.
    """
    args = dict(args)
    use_global = args.pop("use_global", False)
    config = build(SceneFlowModelConfig, args, where)
    if use_global:
        return SceneFlowModel(config)
    object_args = {f.name: getattr(config, f.name) for f in fields(SparseStructureFlowConfig)}
    return SparseStructureFlowModel(SparseStructureFlowConfig(**object_args))


MODELS: Mapping[str, ModelBuilder] = {
    **OBJECT_MODELS,
    "SparseStructureFlowModel": build_sparse_structure_flow,
    "VisionTransformer": from_arguments(VisionTransformer),
    "VGGT": from_arguments(VGGT),
}


def build_model(raw: Mapping[str, Any] | NamedConfig, where: str = "model") -> nn.Module:
    """Build any network of the project from ``{"name": ..., "args": {...}}``.

    Raises:
        ConfigError: the name or an argument is unknown, missing or of the wrong type.
    """
    return build_model_from(raw, where, MODELS)


def load_checkpoint(
    stem: Path | str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Load any network of the project; see ``trellis_modules.checkpoint.load_checkpoint``.

    Raises:
        CheckpointError: the files are missing, damaged, or do not fit the model they describe.
    """
    return checkpoint.load_checkpoint(stem, device, dtype, models=MODELS)
