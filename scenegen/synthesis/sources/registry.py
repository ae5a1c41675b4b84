"""Batch sources by the objective they feed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scenegen.models.registry import load_checkpoint
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.shapes.shape_bank import ShapeBank
from scenegen.synthesis.shapes.voxel_fields import voxel_features
from scenegen.synthesis.sources.appearance_batches import (
    AppearanceSourceConfig,
    FieldSource,
    LatentPictureSource,
)
from scenegen.synthesis.sources.scene_batches import SceneSource, ShapePool, ShapeSource, SourceConfig
from scenegen.synthesis.sources.source import BatchSource
from trellis_modules.config import build
from trellis_modules.sparse import SparseTensor

_FLOWS = ("scene_flow", "structured_latent_flow")  # whose sources encode latents


def _training_packs(paths: Sequence[Path]) -> list[MeshPack]:
    packs = [MeshPack.load(path) for path in paths]
    for path, pack in zip(paths, packs):
        if foreign := [info.id for info in pack.infos if info.split != "train"]:
            raise ValueError(
                f"{path}: expected models of the train split only, got {foreign[0]!r} and "
                f"{len(foreign) - 1} more; nothing may be trained on them"
            )
    return packs


def _on_half_precision(device: torch.device) -> AbstractContextManager:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _structure_encoder(stem: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    encoder = load_checkpoint(stem, device=device).eval()

    def encode(occupancy: Tensor) -> Tensor:
        with _on_half_precision(device):
            return encoder(occupancy).float()

    return encode


def _field_encoder(stem: Path, device: torch.device) -> Callable[[Mapping[str, Tensor]], Tensor]:
    encoder = load_checkpoint(stem, device=device).eval()

    def encode(fields: Mapping[str, Tensor]) -> Tensor:
        x = SparseTensor(voxel_features(fields), fields["coords"])
        with _on_half_precision(device):
            return encoder(x, sample_posterior=False).feats.float()

    return encode


def build_source(
    objective: str,
    settings: Mapping[str, Any],
    packs: Sequence[Path],
    workers: int,
    latent_encoder: Path | None,
    device: torch.device,
) -> BatchSource:
    """Make the batch source of an objective of `scenegen.trainers.experiment`.

    Args:
        objective: a key of `scenegen.trainers.experiment.OBJECTIVES`.
        settings: fields of SourceConfig; of AppearanceSourceConfig for the objectives of structured latents.
        packs: mesh packs of the train split.
        workers: processes that compose scenes ahead.
        latent_encoder: checkpoint stem of the encoder that makes the latents of a flow objective.
        device: where batches are made.

    Raises:
        ValueError: a pack holds a model of another split, a flow objective lacks its encoder, another one
            gets an encoder, or the objective is unknown.
    """
    config_class = AppearanceSourceConfig if objective.startswith("structured_latent") else SourceConfig
    config = replace(build(config_class, settings, "source"), workers=workers)
    pool = ShapePool(ShapeBank(MeshPack.concatenate(_training_packs(packs)), device), config, device)
    if latent_encoder is not None and objective not in _FLOWS:
        raise ValueError(f"{objective}: --latent_encoder is for {' and '.join(_FLOWS)}; leave it out")
    if objective == "structure_vae":
        return ShapeSource(pool)
    if objective == "geometry_encoder":
        return SceneSource(pool, second_view=True)
    if objective == "image_encoder":
        return SceneSource(pool)
    if objective == "structured_latent_vae":
        return FieldSource(pool)
    if objective not in _FLOWS:
        raise ValueError(f"build_source: unknown objective {objective!r}")
    if latent_encoder is None:
        raise ValueError(
            f"{objective}: expected --latent_encoder, the checkpoint stem of the trained encoder"
        )
    if objective == "scene_flow":
        return SceneSource(pool, encode=_structure_encoder(latent_encoder, device))
    return LatentPictureSource(pool, _field_encoder(latent_encoder, device))
