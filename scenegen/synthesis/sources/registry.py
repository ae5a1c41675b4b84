"""Batch sources that compose their data, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from scenegen.datasets.batch import ShapeBatch
from scenegen.datasets.roots import is_of_part
from scenegen.datasets.source import BatchSource, SourceKind, SourceOptions
from scenegen.models.registry import load_checkpoint
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.shapes.shape_bank import ShapeBank
from scenegen.synthesis.shapes.voxel_fields import PaintedFields, voxel_features
from scenegen.synthesis.sources.appearance_batches import (
    AppearanceSourceConfig,
    FieldSource,
    LatentPictureConfig,
    LatentPictureSource,
)
from scenegen.synthesis.sources.batch import (
    FieldBatch,
    LatentPictureBatch,
    SceneBatch,
    SceneLatentBatch,
    ScenePairBatch,
)
from scenegen.synthesis.sources.picture_set import PictureSetConfig, PictureSetSource
from scenegen.synthesis.sources.scene_batches import (
    SceneLatentConfig,
    SceneLatentSource,
    ScenePairSource,
    SceneSource,
)
from scenegen.synthesis.sources.shape_pool import ShapePool, ShapeSource, SourceConfig
from trellis_modules.config import ConfigError
from trellis_modules.sparse import SparseTensor

_HELD_OUT_SHAPES = 1024  # that validation has at most: a few batches are measured again and again


def _pool(config: SourceConfig, options: SourceOptions) -> ShapePool:
    """The shapes of the models to learn from, or of those that are held out."""
    models = [pair for path in options.packs for pair in MeshPack.load_for_training(path).models()]
    for part in is_of_part(options.validation, config.validation_share, lambda info: info.id):
        models = [(mesh, info) for mesh, info in models if part.keeps(info)]
        if not models:
            raise ConfigError(
                f"dataset.validation_share: expected models {part.name} in the packs, found none with "
                f"{config.validation_share:g}; change it, or add models"
            )
    config = replace(config, workers=options.workers)
    if options.validation:
        config = replace(config, workers=0, shapes=min(config.shapes, _HELD_OUT_SHAPES))
    return ShapePool(ShapeBank(MeshPack.from_meshes(models), options.device), config, options.device)


def _on_half_precision(device: torch.device) -> AbstractContextManager:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _structure_encoder(stem: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    encoder = load_checkpoint(stem, device=device).eval()

    def encode(occupancy: Tensor) -> Tensor:
        with _on_half_precision(device):
            return encoder(occupancy).float()

    return encode


def _field_encoder(stem: Path, device: torch.device) -> Callable[[PaintedFields], Tensor]:
    encoder = load_checkpoint(stem, device=device).eval()

    def encode(fields: PaintedFields) -> Tensor:
        x = SparseTensor(voxel_features(fields), fields.coords)
        with _on_half_precision(device):
            return encoder(x, sample_posterior=False).feats.float()

    return encode


def _of_pool(source: Callable[[ShapePool], BatchSource]) -> Callable[..., BatchSource]:
    """Makes sources that need nothing but shapes."""
    return lambda config, options: source(_pool(config, options))


def _scene_latents(config: SceneLatentConfig, options: SourceOptions) -> SceneLatentSource:
    encode = _structure_encoder(options.latent_encoder, options.device)
    return SceneLatentSource(_pool(config, options), encode)


def _latent_pictures(config: LatentPictureConfig, options: SourceOptions) -> LatentPictureSource:
    encode = _field_encoder(options.latent_encoder, options.device)
    return LatentPictureSource(_pool(config, options), encode)


def _picture_set(config: PictureSetConfig, options: SourceOptions) -> PictureSetSource:
    return PictureSetSource.load(config, options.device)


SOURCES: Mapping[str, SourceKind] = {
    "shapes": SourceKind(ShapeBatch, SourceConfig, _of_pool(ShapeSource)),
    "scenes": SourceKind(SceneBatch, SourceConfig, _of_pool(SceneSource)),
    "scene_pairs": SourceKind(ScenePairBatch, SourceConfig, _of_pool(ScenePairSource)),
    "scene_latents": SourceKind(
        SceneLatentBatch, SceneLatentConfig, _scene_latents, takes_latent_encoder=True
    ),
    "voxel_fields": SourceKind(FieldBatch, AppearanceSourceConfig, _of_pool(FieldSource)),
    "latent_pictures": SourceKind(
        LatentPictureBatch, LatentPictureConfig, _latent_pictures, takes_latent_encoder=True
    ),
    "picture_set": SourceKind(
        LatentPictureBatch, PictureSetConfig, _picture_set, takes_packs=False, holds_out=False
    ),
}
