"""Objective of the structured-latent flow: latents at the voxels of an object, given its picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scenegen.conditioning.patch_places import PLACE_CODE_SIZE, place_code
from scenegen.conditioning.scene_conditioner import SceneConditioner, append_patch_details, drop_cond
from scenegen.conditioning.scene_light import append_light
from scenegen.synthesis.sources.batch import LatentPictureBatch
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.dense_probe import Probe
from scenegen.trainers.objectives.flow_term import draw_states
from scenegen.trainers.objectives.losses import masked_mean
from scenegen.trainers.samples import SHOWN, LatentSample, sample_flow
from trellis_modules.models import SLatFlowModel
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.flow_matching import FlowPath, TimeSchedule, model_time
from trellis_modules.sparse import SparseTensor

_NEAR_NOISE = 0.9  # times from which on a velocity error tells what was understood of the picture
_NEAR_M = 0.1
_FAR_OUTSIDE = 1.5  # of a crop, whose middle is 0 and whose edge is 1: places beyond are not told apart


@dataclass(frozen=True)
class StructuredLatentFlowConfig:
    """Noise schedule, how often the picture is withheld, and what helps to find voxels in it.

    Attributes:
        patch_grid: patches along an edge of a picture, see `append_patch_details`; 0 adds no details. The
            flow's ``cond_channels`` are `PATCH_DETAILS` more with them.
        light: tokens also have the tones of the photo, see `light_tones`; ``cond_channels`` are
            `LIGHT_TONES` more with them.
        place_weight: of the error of the places in the crop that the flow's transformer tells for its
            voxels; 0 does not ask.
    """

    times: TimeSchedule = field(default_factory=lambda: TimeSchedule("logitNormal", 1.0, 1.0))
    sigma_min: float = 1e-5
    p_uncond: float = 0.1
    patch_grid: int = 0
    light: bool = False
    place_weight: float = 0.0


class StructuredLatentFlowObjective(Objective):
    """Trains ``flow`` on the tokens of an ``image_encoder`` that stays as it is.

    The pictures show lit objects, the latents hold their colours without light. Before the last block of the
    transformer a linear probe reads from each voxel where in the crop it lies (`place_code`), so that the
    last one can look there; it is not needed afterwards.
    """

    batch_type = LatentPictureBatch

    def __init__(
        self, flow: SLatFlowModel, image_encoder: nn.Module, config: StructuredLatentFlowConfig
    ) -> None:
        super().__init__()
        self.flow, self.image_encoder, self.config = flow, image_encoder.requires_grad_(False), config
        if config.place_weight:
            self.probe = Probe(flow.config.model_channels, PLACE_CODE_SIZE)
        self.conditioner = SceneConditioner(image_encoder, None)
        self.path = FlowPath(config.sigma_min)

    def forward(
        self, batch: LatentPictureBatch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Velocity error, a voxel counting as much as any other, and the probe's."""
        coords, x_0, device = batch.coords, batch.x_0, batch.x_0.device
        count = len(batch.asset_image)
        cond = self.condition(batch.asset_image, batch.light)
        dropped = torch.rand(count, generator=generator, device=device) < self.config.p_uncond
        t = self.config.times.sample(count, generator=generator, device=device)
        t_voxel = t[coords[:, 0].long()]
        states = draw_states(self.path, x_0, t_voxel, generator)
        x_t = SparseTensor(states.x_t, coords, count)
        output = self.flow(
            x_t,
            model_time(t, count, device),
            drop_cond(cond, dropped),
            features_before=len(self.flow.blocks) - 1 if self.config.place_weight else None,
        )
        error = states.errors(output.velocity.feats)
        noisy = (t_voxel > _NEAR_NOISE).float()
        logs = {"mse": error.mean(), "mse_near_noise": masked_mean(error, noisy)}
        loss = logs["mse"]
        if self.config.place_weight:
            logs["places"] = self._places_error(output.features, batch.crop_projection, dropped)
            loss = loss + self.config.place_weight * logs["places"]
        return loss, {name: value.detach() for name, value in logs.items()}

    @torch.no_grad()
    def condition(self, images: Tensor, light: Tensor) -> Tensor:
        """Tokens (B, T, C) of pictures (B, 3, I, I) in such light (B, L)."""
        cond = self.conditioner.encode_images(images)
        if self.config.patch_grid:
            cond = append_patch_details(cond, images, self.config.patch_grid)
        if self.config.light:
            cond = append_light(cond, light)
        return cond

    def samples(
        self, batch: LatentPictureBatch, generator: torch.Generator, params: SamplingParams
    ) -> tuple[LatentSample, ...]:
        """Four of the objects of the batch."""
        images = batch.asset_image[:SHOWN]
        cond = self.condition(images, batch.light[:SHOWN])
        true = SparseTensor(batch.x_0.float(), batch.coords, len(batch.asset_image))[:SHOWN]
        latents, _ = sample_flow(
            self.flow, true, cond, torch.zeros_like(cond), generator, self.config.sigma_min, params
        )
        return (LatentSample(latents, true, images),)

    def _places_error(self, voxels: SparseTensor, projections: Tensor, dropped: Tensor) -> Tensor:
        """Mean absolute error of the code of the voxels' places, of objects whose picture was shown."""
        owner = voxels.coords[:, 0].long()
        edge = self.flow.config.resolution // self.flow.config.patch_size
        centres = (voxels.coords[:, 1:] + 0.5) / edge - 0.5  # (T, 3) in the object's z-up frame
        homogeneous = F.pad(centres, (0, 1), value=1.0)
        x, y, depth = (projections[owner] * homogeneous[:, None]).sum(-1).unbind(-1)
        places = torch.stack([x, y], -1) / depth.clamp(min=_NEAR_M)[:, None]
        target = place_code(places.clamp(-_FAR_OUTSIDE, _FAR_OUTSIDE))
        error = (self.probe(voxels.feats.float()) - target).abs().mean(-1)
        return masked_mean(error, (~dropped)[owner].float())
