"""Objective of the structure flow on single objects, before scenes: velocity, the image encoder included."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from scenegen.conditioning.parts import CondParts
from scenegen.conditioning.scene_conditioner import SceneConditioner, drop_cond
from scenegen.synthesis.sources.batch import ObjectLatentBatch
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.dense_probe import PointsProbe
from scenegen.trainers.objectives.flow_term import draw_states
from scenegen.trainers.objectives.losses import masked_mean
from scenegen.trainers.samples import SHOWN, SceneSample
from trellis_modules.models import PreparedContext
from trellis_modules.samplers import FlowEulerSampler, SamplingParams
from trellis_modules.samplers.flow_matching import FlowPath, TimeSchedule, model_time

_NEARLY_NOISE = 0.95  # above this time the state itself hardly shows the shape
_CROP_ALONE = CondParts(mask=False, scene=False, geometry=False)


@dataclass(frozen=True)
class ObjectFlowConfig:
    """Noise schedule, weights of the terms, and what is dropped how often."""

    times: TimeSchedule = field(default_factory=lambda: TimeSchedule("logitNormal", 2.2, 1.8))
    sigma_min: float = 1e-5
    draws: int = 1  # states of different noise and time that share the encoding of a picture
    points_weight: float = 3.0  # where the patches of a crop lie on the object
    points_per_edge: int = 1  # parts of a patch along each of its edges, of which that is told
    p_uncond: float = 0.1  # objects trained without any condition, for guidance
    append_places: bool = False  # see `SceneConditioner`


class ObjectFlowObjective(Objective):
    """Trains ``flow``, of single objects, and ``image_encoder`` together on one picture of each object.

    What an object looks like from the side that is not seen, and what an image token means, is learnt here
    from many more pictures than a training on scenes could see in the same time: the flow of scenes starts
    from this one, its attention to a scene as the objects' own. A linear probe reads from the tokens where
    each patch lies on its object, as in `SceneFlowObjective`.

    Source: SceneGen, arXiv:2508.15769, sec. 3.2, whose flow starts from one of single objects.
    """

    batch_type = ObjectLatentBatch

    def __init__(self, flow: nn.Module, image_encoder: nn.Module, config: ObjectFlowConfig) -> None:
        super().__init__()
        self.flow, self.image_encoder, self.config = flow, image_encoder, config
        edge = image_encoder.table_edge
        self.probes = nn.ModuleDict(
            {"points": PointsProbe(image_encoder.embed_dim, edge, config.points_per_edge)}
        )
        self.conditioner = SceneConditioner(image_encoder, None, append_places=config.append_places)
        self.path = FlowPath(config.sigma_min)

    def encode(self, batch: ObjectLatentBatch) -> Tensor:
        """The condition (B, L, C) of the objects of a batch; its last tokens are those of the patches."""
        images = batch.asset_image
        return self.conditioner.encode_tensors(images, batch.mask_image, images, parts=_CROP_ALONE)[0]

    def forward(
        self, batch: ObjectLatentBatch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Velocity error of visible objects, and the probe's error."""
        config, device = self.config, batch.x_0.device
        cond = self.encode(batch)
        points = self.points_error(cond, batch)
        dropped = torch.rand(len(cond), generator=generator, device=device) < config.p_uncond
        x_0 = batch.x_0.float().repeat(config.draws, 1, 1, 1, 1)
        t = config.times.sample(len(x_0), generator=generator, device=device)
        states = draw_states(self.path, x_0, t, generator)
        context = self.flow.precompute_context(drop_cond(cond, dropped))
        context = PreparedContext(tuple(part.repeat(config.draws) for part in context.blocks))
        output = self.flow(states.x_t, model_time(t, len(t), device), context)
        visible = batch.visible.float().repeat(config.draws)
        error = states.errors(output.velocity)
        mse = masked_mean(error, visible)
        blind = masked_mean(error, visible * (t > _NEARLY_NOISE))
        logs = {"mse": mse, "mse_blind": blind, "points": points}
        return mse + config.points_weight * points, {name: value.detach() for name, value in logs.items()}

    def shown(self, batch: ObjectLatentBatch) -> ObjectLatentBatch:
        """Four of the objects."""
        return batch.map(lambda value: value[:SHOWN])

    def samples(
        self, batch: ObjectLatentBatch, generator: torch.Generator, params: SamplingParams
    ) -> tuple[SceneSample, ...]:
        """The objects of the batch."""
        latents = self.sample_latents(batch, generator, params)
        return (SceneSample(latents, batch.x_0.float(), images=batch.asset_image),)

    @torch.no_grad()
    def sample_latents(
        self, batch: ObjectLatentBatch, generator: torch.Generator, params: SamplingParams
    ) -> Tensor:
        """Latents (B, C, r, r, r) that the flow, in eval mode, makes of the pictures of a batch.

        Args:
            batch: its latents only tell the shape of what is sampled.
            generator: of the noise, on the device of the batch.
            params: steps and strength of the guidance.
        """
        cond = self.encode(batch)
        contexts = [self.flow.precompute_context(each) for each in (cond, torch.zeros_like(cond))]
        noise = torch.randn(batch.x_0.shape, generator=generator, device=batch.x_0.device)
        sampler = FlowEulerSampler(self.config.sigma_min)
        return sampler.sample(self.flow, noise, *contexts, params).samples

    def points_error(self, cond: Tensor, batch: ObjectLatentBatch) -> Tensor:
        """The probe's error on the patches of a condition (B, L, C), whose grid divides the points'."""
        width, edge = self.image_encoder.embed_dim, self.image_encoder.table_edge
        return self.probes["points"].error(cond[:, -(edge**2) :, :width], batch.object_points)
