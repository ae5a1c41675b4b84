"""Objective of the image encoder before the structure flow: dense targets alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scenegen.conditioning.scene_conditioner import SceneConditioner
from scenegen.trainers.objectives.dense_probe import Probe, depth_error, points_error
from scenegen.trainers.trainer import Objective


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Weights of the terms."""

    points_weight: float = 3.0
    depth_weight: float = 1.0


class ImageEncoderObjective(Objective):
    """Trains ``image_encoder`` to tell where the patches of crops and scenes lie."""

    def __init__(self, image_encoder: nn.Module, config: ImageEncoderConfig) -> None:
        self.probes = nn.ModuleDict(
            {"points": Probe(image_encoder.embed_dim, 3), "depth": Probe(image_encoder.embed_dim, 1)}
        )
        self.modules: Mapping[str, nn.Module] = {"image_encoder": image_encoder, "probes": self.probes}
        self.config = config
        self.conditioner = SceneConditioner(image_encoder, None)

    def loss(
        self, batch: Mapping[str, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the probes' errors; ``batch`` as `SceneSource` makes it."""
        assets, scenes = batch["asset_image"], batch["scene_image"]
        tokens = self.conditioner.encode_images(torch.cat([assets, scenes]))
        patches = tokens[:, -batch["object_points"][0, 0].numel() :]
        asset_patches, scene_patches = patches.split([len(assets), len(scenes)])
        errors = {
            "points": points_error(self.probes["points"](asset_patches), batch["object_points"]),
            "depth": depth_error(self.probes["depth"](scene_patches)[..., 0], batch["depth"]),
        }
        loss = self.config.points_weight * errors["points"] + self.config.depth_weight * errors["depth"]
        return loss, {name: error.detach() for name, error in errors.items()}
