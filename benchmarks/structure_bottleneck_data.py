"""Pictures of single objects that stay on the device, and those that variants are measured on."""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from scenegen.datasets.source import SourceOptions
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.shapes.shape_bank import ShapeBank
from scenegen.synthesis.sources.batch import ObjectLatentBatch, SceneBatch
from scenegen.synthesis.sources.object_batches import ObjectLatentSource, ObjectSourceConfig
from scenegen.synthesis.sources.registry import SOURCES, structure_encoder
from scenegen.synthesis.sources.shape_pool import ShapePool

logger = logging.getLogger("bottleneck")

POINTS_GRID = 28
_MEASURED_SEED = 1000  # of pictures that are not trained on


@dataclass(frozen=True)
class Bank:
    """Pictures on the device, in bytes, of shapes whose latents are kept once each."""

    batch: ObjectLatentBatch  # pictures uint8, points float16; ``x_0`` (P, C, r, r, r) of all shapes
    shape: Tensor  # (K,) int64, rows of ``x_0``
    seconds: float  # that drawing took

    def __len__(self) -> int:
        return len(self.shape)

    def draw(self, count: int, generator: torch.Generator) -> ObjectLatentBatch:
        """Random pictures as trainings take them."""
        rows = torch.randint(len(self), (count,), generator=generator, device=self.shape.device)
        return ObjectLatentBatch(
            asset_image=self.batch.asset_image[rows].float() / 255,
            mask_image=self.batch.mask_image[rows].float() / 255,
            object_points=self.batch.object_points[rows].float(),
            visible=self.batch.visible[rows],
            x_0=self.batch.x_0[self.shape[rows]].float(),
        )


@dataclass(frozen=True)
class EvaluationSet:
    """Pictures that variants are measured on."""

    batch: ObjectLatentBatch
    scenes: SceneBatch  # the same pictures with all that a scene model sees
    true: Tensor  # (B, 1, R, R, R) bool


def fill_bank(options: argparse.Namespace) -> Bank:
    """Draw pictures until there are enough or the time is over."""
    device, start = torch.device(options.device), time.monotonic()
    config = ObjectSourceConfig(
        objects_per_step=options.at_once,
        shapes=options.shapes,
        real_share=0.6,
        max_bend=0.5,
        hidden_share=0.3,
        patch_grid=POINTS_GRID,
        surface_samples=65536 if device.type == "cuda" else 4096,
        seed=3,
    )
    encoder = options.checkpoint / "ckpts/ss_enc"
    files = SourceOptions(device, tuple(options.packs), encoder, options.workers)
    source: ObjectLatentSource = SOURCES["object_latents"].make(config, files)
    latents = source.latents.at(0).half()
    logger.info("%d shapes encoded after %.0f s", len(latents), time.monotonic() - start)
    parts, shapes, number = [], [], 0
    while number * options.at_once < options.pictures and time.monotonic() - start < options.draw_seconds:
        shot = source.shoot(number)
        batch = source.developed(shot, latents[:0])
        parts.append(_in_bytes(batch))
        shapes.append(shot.shape.flatten())
        number += 1
        if number % 50 == 1:
            logger.info("%d pictures after %.0f s", number * options.at_once, time.monotonic() - start)
    joined = {
        field.name: torch.cat([getattr(part, field.name) for part in parts])
        for field in fields(ObjectLatentBatch)
        if field.name != "x_0"
    }
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Bank(ObjectLatentBatch(**joined, x_0=latents), torch.cat(shapes), time.monotonic() - start)


def _in_bytes(batch: ObjectLatentBatch) -> ObjectLatentBatch:
    return ObjectLatentBatch(
        asset_image=(batch.asset_image * 255).round().to(torch.uint8),
        mask_image=(batch.mask_image * 255).round().to(torch.uint8),
        object_points=batch.object_points.half(),
        visible=batch.visible,
        x_0=batch.x_0,
    )


def evaluation_sets(options: argparse.Namespace) -> dict[str, EvaluationSet]:
    """Pictures of unchanged furniture of the train split and of the validation split."""
    measured = options.train_pack or options.packs[0]
    packs = {"train": measured, "validation": options.validation_pack}
    return {name: _evaluation_set(path, options) for name, path in packs.items()}


def _evaluation_set(path: Path, options: argparse.Namespace) -> EvaluationSet:
    device = torch.device(options.device)
    pack = MeshPack.load(path)
    config = ObjectSourceConfig(
        objects_per_step=options.measured,
        shapes=max(options.measured, 4 * len(pack)),
        max_stretch=1.0,
        real_share=1.0,
        patch_grid=POINTS_GRID,
        surface_samples=65536,
        seed=_MEASURED_SEED,
    )
    pool = ShapePool(ShapeBank(pack, device), config, device)
    source = ObjectLatentSource(pool, structure_encoder(options.checkpoint / "ckpts/ss_enc", device))
    batch, true = source.with_structures(0)
    scenes = source.shoot(0).scene_batch(config.image_size, POINTS_GRID)
    return EvaluationSet(batch, scenes, true)
