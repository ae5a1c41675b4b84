"""Objective of the structured-latent flow: latents at the voxels of an object, given its picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from scenegen.pipelines.conditioning import SceneConditioner, append_patch_colours, drop_cond
from scenegen.trainers.trainer import Objective
from trellis_modules.models import SLatFlowModel
from trellis_modules.samplers.flow_matching import FlowPath, TimeSchedule, model_time
from trellis_modules.sparse import SparseTensor

_NEAR_NOISE = 0.9  # times from which on a velocity error tells what was understood of the picture


@dataclass(frozen=True)
class StructuredLatentFlowConfig:
    """Noise schedule, how often the picture is withheld, and whether its colours join the tokens.

    Attributes:
        colour_grid: patches along an edge of a picture, see `append_patch_colours`; 0 adds no colours. The
            flow's ``cond_channels`` are `PATCH_COLOURS` more with them.
    """

    times: TimeSchedule = field(default_factory=lambda: TimeSchedule("logitNormal", 1.0, 1.0))
    sigma_min: float = 1e-5
    p_uncond: float = 0.1
    colour_grid: int = 0


class StructuredLatentFlowObjective(Objective):
    """Trains ``flow`` on the tokens of an ``image_encoder`` that stays as it is.

    The pictures show lit objects, the latents hold their colours without light.
    """

    def __init__(
        self, flow: SLatFlowModel, image_encoder: nn.Module, config: StructuredLatentFlowConfig
    ) -> None:
        image_encoder.requires_grad_(False)
        self.modules: Mapping[str, nn.Module] = {"flow": flow, "image_encoder": image_encoder}
        self.flow, self.config = flow, config
        self.conditioner = SceneConditioner(image_encoder, None)
        self.path = FlowPath(config.sigma_min)

    def loss(
        self, batch: Mapping[str, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Velocity error, a voxel counting as much as any other.

        Args:
            batch: asset_image (B, 3, I, I) in [0, 1]; coords (T, 4) int32; x_0 (T, C).
            generator: on the device of the batch.
        """
        images, coords, x_0 = batch["asset_image"], batch["coords"], batch["x_0"]
        count, device = len(images), images.device
        with torch.no_grad():
            cond = self.conditioner.encode_images(images)
            if self.config.colour_grid:
                cond = append_patch_colours(cond, images, self.config.colour_grid)
        dropped = torch.rand(count, generator=generator, device=device) < self.config.p_uncond
        t = self.config.times.sample(count, generator=generator, device=device)
        t_voxel = t[coords[:, 0].long()]
        noise = torch.randn(x_0.shape, generator=generator, device=device)
        x_t = SparseTensor(self.path.diffuse(x_0, noise, t_voxel), coords, count)
        output = self.flow(x_t, model_time(t, count, device), drop_cond(cond, dropped))
        error = (output.velocity.feats.float() - self.path.target_velocity(x_0, noise)).square().mean(1)
        noisy = (t_voxel > _NEAR_NOISE).float()
        near_noise = (error * noisy).sum() / noisy.sum().clamp(min=1)
        mse = error.mean()
        return mse, {"mse": mse.detach(), "mse_near_noise": near_noise.detach()}
