"""Objective of the image encoder before the structure flow: dense targets alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scenegen.pipelines.conditioning import SceneConditioner
from scenegen.trainers.dense_probe import DenseProbe
from scenegen.trainers.trainer import Objective


@dataclass(frozen=True)
class ImageEncoderConfig:
    """Weights of the terms."""

    points_weight: float = 3.0
    depth_weight: float = 1.0


class ImageEncoderObjective(Objective):
    """Trains ``image_encoder`` to tell where the patches of crops and scenes lie."""

    def __init__(self, image_encoder: nn.Module, config: ImageEncoderConfig) -> None:
        probe = DenseProbe(image_encoder.embed_dim)
        self.modules: Mapping[str, nn.Module] = {"image_encoder": image_encoder, "probe": probe}
        self.probe, self.config = probe, config
        self.conditioner = SceneConditioner(image_encoder, None)

    def loss(
        self, batch: Mapping[str, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the probe's errors; ``batch`` as `SceneSource` makes it."""
        assets, scenes = batch["asset_image"], batch["scene_image"]
        tokens = self.conditioner.encode_images(torch.cat([assets, scenes]))
        patches = tokens[:, -batch["object_points"][0, 0].numel() :]
        errors = self.probe(*patches.split([len(assets), len(scenes)]), batch)
        loss = self.config.points_weight * errors["points"] + self.config.depth_weight * errors["depth"]
        return loss, {name: error.detach() for name, error in errors.items()}
