"""Batch sources that compose their data, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from scenegen.datasets.batch import ShapeBatch
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
    ObjectLatentBatch,
    SceneBatch,
    SceneLatentBatch,
    ScenePairBatch,
)
from scenegen.synthesis.sources.object_batches import ObjectLatentSource, ObjectSourceConfig
from scenegen.synthesis.sources.picture_set import PictureSetConfig, PictureSetSource
from scenegen.synthesis.sources.scene_batches import SceneLatentSource, ScenePairSource, SceneSource
from scenegen.synthesis.sources.shape_pool import ShapePool, ShapeSource, SourceConfig
from trellis_modules.sparse import SparseTensor

_HELD_OUT_SHAPES = 1024  # variants of the few models of the validation split


def _pool(config: SourceConfig, options: SourceOptions) -> ShapePool:
    if options.validation:
        packs = [MeshPack.load_for_validation(path) for path in options.validation_packs]
        config = replace(config, shapes=min(config.shapes, _HELD_OUT_SHAPES), refresh_steps=1 << 30)
    else:
        packs = [MeshPack.load_for_training(path) for path in options.packs]
    bank = ShapeBank(MeshPack.concatenate(packs), options.device)
    return ShapePool(bank, replace(config, workers=options.workers), options.device)


def _on_half_precision(device: torch.device) -> AbstractContextManager:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def structure_encoder(stem: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What makes latents of occupancy grids, by the encoder of a checkpoint stem.

    Raises:
        CheckpointError: it is missing, damaged or does not fit.
    """
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


def _scene_latents(config: SourceConfig, options: SourceOptions) -> SceneLatentSource:
    encode = structure_encoder(options.latent_encoder, options.device)
    return SceneLatentSource(_pool(config, options), encode)


def _object_latents(config: ObjectSourceConfig, options: SourceOptions) -> ObjectLatentSource:
    encode = structure_encoder(options.latent_encoder, options.device)
    return ObjectLatentSource(_pool(config, options), encode)


def _latent_pictures(config: LatentPictureConfig, options: SourceOptions) -> LatentPictureSource:
    encode = _field_encoder(options.latent_encoder, options.device)
    return LatentPictureSource(_pool(config, options), encode)


def _picture_set(config: PictureSetConfig, options: SourceOptions) -> PictureSetSource:
    return PictureSetSource.load(config, options.device)


SOURCES: Mapping[str, SourceKind] = {
    "shapes": SourceKind(ShapeBatch, SourceConfig, _of_pool(ShapeSource)),
    "scenes": SourceKind(SceneBatch, SourceConfig, _of_pool(SceneSource)),
    "scene_pairs": SourceKind(ScenePairBatch, SourceConfig, _of_pool(ScenePairSource)),
    "scene_latents": SourceKind(SceneLatentBatch, SourceConfig, _scene_latents, takes_latent_encoder=True),
    "object_latents": SourceKind(
        ObjectLatentBatch, ObjectSourceConfig, _object_latents, takes_latent_encoder=True
    ),
    "voxel_fields": SourceKind(FieldBatch, AppearanceSourceConfig, _of_pool(FieldSource)),
    "latent_pictures": SourceKind(
        LatentPictureBatch, LatentPictureConfig, _latent_pictures, takes_latent_encoder=True
    ),
    "picture_set": SourceKind(LatentPictureBatch, PictureSetConfig, _picture_set, takes_packs=False),
}
