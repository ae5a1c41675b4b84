"""Class names of checkpoint configurations, scene models included."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import nn

from scenegen.models.scene_flow import SceneFlowConfig, SceneFlowModel
from trellis_modules.config import build
from trellis_modules.models import MODELS as OBJECT_MODELS
from trellis_modules.models import ModelBuilder, SparseStructureFlowConfig, SparseStructureFlowModel


def build_sparse_structure_flow(args: Mapping[str, Any], where: str) -> nn.Module:
    """The flow model a released configuration describes: scene attention when ``use_global`` is true.

    A configuration without scene attention may still carry scene arguments; they are checked and have no effect.
    """
    args = dict(args)
    use_global = args.pop("use_global", False)
    config = build(SceneFlowConfig, args, where)
    if use_global:
        return SceneFlowModel(config)
    object_args = {f.name: getattr(config, f.name) for f in fields(SparseStructureFlowConfig)}
    return SparseStructureFlowModel(SparseStructureFlowConfig(**object_args))


#: Every model of object and scene, by the name in its checkpoint.
MODELS: Mapping[str, ModelBuilder] = {
    **OBJECT_MODELS,
    "SparseStructureFlowModel": build_sparse_structure_flow,
}
