"""Objective of the image encoder before the structure flow: dense targets alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scenegen.conditioning.scene_conditioner import SceneConditioner
from scenegen.synthesis.sources.batch import SceneBatch
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.dense_probe import PointsProbe, Probe, depth_error


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Weights of the terms."""

    points_weight: float = 3.0
    depth_weight: float = 1.0


class ImageEncoderObjective(Objective):
    """Trains ``image_encoder`` to tell where the patches of crops and scenes lie."""

    batch_type = SceneBatch

    def __init__(self, image_encoder: nn.Module, config: ImageEncoderConfig) -> None:
        super().__init__()
        self.image_encoder, self.config = image_encoder, config
        self.probes = nn.ModuleDict(
            {
                "points": PointsProbe(image_encoder.embed_dim, image_encoder.table_edge),
                "depth": Probe(image_encoder.embed_dim, 1),
            }
        )
        self.conditioner = SceneConditioner(image_encoder, None)

    def forward(self, batch: SceneBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the probes' errors."""
        assets, scenes = batch.asset_image, batch.picture.image
        tokens = self.conditioner.encode_images(torch.cat([assets, scenes]))
        patches = tokens[:, -(self.image_encoder.table_edge**2) :]
        asset_patches, scene_patches = patches.split([len(assets), len(scenes)])
        errors = {
            "points": self.probes["points"].error(asset_patches, batch.object_points),
            "depth": depth_error(self.probes["depth"](scene_patches)[..., 0], batch.picture.depth),
        }
        loss = self.config.points_weight * errors["points"] + self.config.depth_weight * errors["depth"]
        return loss, {name: error.detach() for name, error in errors.items()}
