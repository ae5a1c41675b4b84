"""Batch sources by the objective they feed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dataset_toolkits.mesh_pack import MeshPack
from dataset_toolkits.online.scene_batches import SceneSource, ShapePool, ShapeSource, SourceConfig
from dataset_toolkits.online.shape_bank import ShapeBank
from scenegen.registry import load_checkpoint
from scenegen.trainers.prefetch import BatchSource
from trellis_modules.config import build


def _training_packs(paths: Sequence[Path]) -> list[MeshPack]:
    packs = [MeshPack.load(path) for path in paths]
    for path, pack in zip(paths, packs):
        if foreign := [info.id for info in pack.infos if info.split != "train"]:
            raise ValueError(
                f"{path}: expected models of the train split only, got {foreign[0]!r} and "
                f"{len(foreign) - 1} more; nothing may be trained on them"
            )
    return packs


def _latent_encoder(stem: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    encoder = load_checkpoint(stem, device=device).eval()

    def encode(occupancy: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            return encoder(occupancy).float()

    return encode


def build_source(
    objective: str,
    settings: Mapping[str, Any],
    packs: Sequence[Path],
    workers: int,
    structure_encoder: Path | None,
    device: torch.device,
) -> BatchSource:
    """Make the batch source of an objective of `scenegen.trainers.experiment`.

    Args:
        objective: structure_vae, geometry_encoder or scene_flow.
        settings: fields of SourceConfig.
        packs: mesh packs of the train split.
        workers: processes that compose scenes ahead.
        structure_encoder: checkpoint stem of the encoder that makes scene_flow's latents.
        device: where batches are made.

    Raises:
        ValueError: a pack holds a model of another split, scene_flow lacks its encoder, or the objective is
            unknown.
    """
    config = replace(build(SourceConfig, settings, "source"), workers=workers)
    meshes = _training_packs(packs)
    pool = ShapePool(ShapeBank(MeshPack.concatenate(meshes), device), config, device)
    if objective == "structure_vae":
        return ShapeSource(pool)
    if objective == "geometry_encoder":
        return SceneSource(pool, second_view=True)
    if objective != "scene_flow":
        raise ValueError(f"build_source: unknown objective {objective!r}")
    if structure_encoder is None:
        raise ValueError(
            "scene_flow: expected --structure_encoder, the checkpoint stem of the trained encoder"
        )
    return SceneSource(pool, encode=_latent_encoder(structure_encoder, device))
