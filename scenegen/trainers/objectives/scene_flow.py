"""Objective of the sparse-structure flow with scene attention: velocity and poses, both encoders included."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from scenegen.conditioning.scene_conditioner import SceneConditioner, drop_cond
from scenegen.synthesis.sources.batch import SceneBatch, SceneLatentBatch
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.dense_probe import (
    CAMERA_POSE_SIZE,
    PointsProbe,
    Probe,
    camera_pose_errors,
    camera_poses,
    depth_error,
)
from scenegen.trainers.objectives.flow_term import draw_states
from scenegen.trainers.objectives.losses import masked_mean
from scenegen.trainers.objectives.pose_term import pose_errors, weighted_sum
from scenegen.trainers.samples import SceneSample, sample_flow
from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.flow_matching import FlowPath, TimeSchedule, model_time

_NEARLY_NOISE = 0.95  # above this time the state itself hardly shows the shape


@dataclass(frozen=True)
class SceneFlowConfig:
    """Noise schedule, weights of the terms, and what is dropped how often."""

    times: TimeSchedule = field(default_factory=lambda: TimeSchedule("logitNormal", 0.8, 1.2))
    sigma_min: float = 1e-5
    draws: int = 1  # states of different noise and time that share the encoding of a scene's pictures
    trans_weight: float = 3.0
    rot_weight: float = 3.0
    scale_weight: float = 1.0
    points_weight: float = 3.0  # where the patches of an asset's crop lie on the object
    points_per_edge: int = 1  # parts of a patch along each of its edges, of which that is told
    depth_weight: float = 1.0  # how far the patches of the scene are, told by image and by geometry tokens
    camera_weight: float = 1.0  # how each asset stands before the camera, told halfway by its position token
    smooth_scale: float = 0.02
    p_uncond: float = 0.1  # scenes trained without any condition, for guidance
    p_no_scene: float = 0.15  # steps without scene attention: every asset attends to itself alone
    append_places: bool = False  # see `SceneConditioner`


class SceneFlowObjective(Objective):
    """Trains ``flow``, ``image_encoder`` and ``geometry_encoder`` together on scenes of equal size.

    All assets of a scene share their time and their dropped conditions, as they do when scenes are sampled.
    Linear ``probes`` read from the tokens what a picture tells about single objects: where each patch of a
    crop lies on its object, how far each patch of the scene is, and, from the position tokens halfway
    through the flow, how each object stands before the camera. Networks that start from nothing learn to see
    much sooner from these targets than through velocities and poses relative to the query. The probes are
    not needed afterwards.
    """

    batch_type = SceneLatentBatch
    places_objects = True

    def __init__(
        self, flow: nn.Module, image_encoder: nn.Module, geometry_encoder: nn.Module, config: SceneFlowConfig
    ) -> None:
        super().__init__()
        self.flow, self.image_encoder, self.geometry_encoder = flow, image_encoder, geometry_encoder
        self.config, self._width = config, image_encoder.embed_dim
        self.probes = nn.ModuleDict(
            {
                "points": PointsProbe(self._width, image_encoder.table_edge, config.points_per_edge),
                "depth": Probe(self._width, 1),
                "geometry": Probe(2 * self._width, 1),
                "camera": Probe(flow.config.model_channels, CAMERA_POSE_SIZE),
            }
        )
        self.conditioner = conditioner_of(image_encoder, geometry_encoder, config.append_places)
        self.path = FlowPath(config.sigma_min)

    def decide(self, generator: torch.Generator) -> tuple[bool]:
        """Whether assets are alone: the loss is without scene attention."""
        return (float(torch.rand((), generator=generator)) < self.config.p_no_scene,)

    def forward(
        self, batch: SceneLatentBatch, generator: torch.Generator, alone: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Velocity error of visible assets, pose errors of visible targets, and the probes' errors."""
        config, (num_scenes, num_assets) = self.config, batch.visible.shape
        device, draws = batch.visible.device, config.draws
        cond, num_object_tokens = self._condition(batch)
        seen = self._seen_errors(cond[..., : self._width], num_object_tokens, num_assets, batch)
        kept = torch.rand(num_scenes, generator=generator, device=device) >= config.p_uncond

        x_0 = batch.x_0.flatten(0, 1).float().repeat(draws, 1, 1, 1, 1)
        t = config.times.sample(num_scenes * draws, generator=generator, device=device)
        t = t.repeat_interleave(num_assets)
        states = draw_states(self.path, x_0, t, generator)
        is_query = (torch.arange(num_assets, device=device) == 0).repeat(num_scenes * draws)
        output = self.flow(
            states.x_t,
            model_time(t, len(t), device),
            drop_cond(cond, ~kept.repeat_interleave(num_assets)),
            num_object_tokens=num_object_tokens,
            scene_size=1 if alone else num_assets,
            is_query=is_query,
            features_before=max(1, len(self.flow.blocks) // 2),
            cond_repeats=draws,
        )

        visible = batch.visible.flatten().float().repeat(draws)
        error = states.errors(output.velocity)
        mse = masked_mean(error, visible)
        blind = visible * (t > _NEARLY_NOISE)  # where only the condition tells what is there
        errors = self._pose_errors(output, kept, batch)
        look = (
            config.points_weight * seen["points"]
            + config.depth_weight * (seen["depth"] + seen["geometry"])
            + config.camera_weight * sum(errors[name] for name in errors if name.startswith("camera"))
        )
        logs = {"mse": mse, "mse_blind": masked_mean(error, blind), **errors}
        if alone:
            logs = {"mse_alone": mse, "translation_alone": errors["translation"]}
        return mse + weighted_sum(errors, config) + look, {
            name: value.detach() for name, value in (logs | seen).items()
        }

    def shown(self, batch: SceneLatentBatch) -> SceneLatentBatch:
        """The first of the scenes."""
        return batch.scene(0)

    def samples(
        self, batch: SceneLatentBatch, generator: torch.Generator, params: SamplingParams
    ) -> tuple[SceneSample, ...]:
        """Each of the scenes: the query, and the others that can be seen."""
        cond, num_object_tokens = self._condition(batch)
        flow = partial(self.flow, num_object_tokens=num_object_tokens, scene_size=batch.visible.shape[1])
        latents, poses = sample_flow(
            flow,
            batch.x_0.flatten(0, 1).float(),
            cond,
            torch.zeros_like(cond),
            generator,
            self.config.sigma_min,
            params,
        )
        return shown_scene_samples(batch, latents, poses)

    def _condition(self, batch: SceneLatentBatch) -> tuple[Tensor, int]:
        """The condition (B, L, C), and the number of tokens at its front that show the object itself."""
        return self.conditioner.encode_tensors(batch.asset_image, batch.mask_image, batch.picture.image)

    def _pose_errors(self, output: FlowOutput, kept: Tensor, batch: SceneBatch) -> dict[str, Tensor]:
        """Errors of the poses of targets, and of how all assets stand before the camera, told halfway."""
        shape, draws = batch.visible.shape, self.config.draws
        known = batch.visible & kept[:, None]  # (S, N)
        is_target = torch.arange(shape[1], device=known.device) > 0
        errors = pose_errors(
            output.extras["positions"].float().unflatten(0, (draws, *shape)),
            batch.poses.expand(draws, -1, -1, -1),
            (known & is_target).expand(draws, -1, -1),
            self.config.smooth_scale,
        )
        position_tokens = output.features[:, 0]
        halfway = self.probes["camera"](position_tokens).unflatten(0, (draws, *shape))
        target = camera_poses(batch.picture, batch.world_poses)
        return errors | camera_pose_errors(halfway, target, known.expand(draws, -1, -1))

    def _seen_errors(
        self, cond: Tensor, tokens: int, num_assets: int, batch: SceneBatch
    ) -> dict[str, Tensor]:
        """The probes' errors on the patches of crops, scenes and geometry within ``cond``."""
        patches, depth = self.image_encoder.table_edge**2, batch.picture.depth
        scenes = cond[::num_assets]
        halves = scenes[:, 3 * tokens :].unflatten(1, (2, -1)).transpose(1, 2).flatten(2)  # (S, P, 2C)
        geometry = halves[:, self.conditioner.geometry_encoder.patch_start_idx :]
        return {
            "points": self.probes["points"].error(cond[:, tokens - patches : tokens], batch.object_points),
            "depth": depth_error(
                self.probes["depth"](scenes[:, 3 * tokens - patches : 3 * tokens])[..., 0], depth
            ),
            "geometry": depth_error(self.probes["geometry"](geometry)[..., 0], depth),
        }


def conditioner_of(
    image_encoder: nn.Module, geometry_encoder: nn.Module, append_places: bool
) -> SceneConditioner:
    """Makes the conditions of the small model's flows of scenes; see `SceneConditioner`."""
    return SceneConditioner(
        image_encoder, geometry_encoder.aggregator, normalize_geometry=True, append_places=append_places
    )


def shown_scene_samples(batch: SceneLatentBatch, latents: Tensor, poses: Tensor) -> tuple[SceneSample, ...]:
    """What was sampled of S scenes of N assets, beside the truth: the queries, and others that can be seen.

    Args:
        batch: the scenes.
        latents: (S * N, C, r, r, r).
        poses: (S * N, 8).
    """
    latents, poses, images = (
        values.unflatten(0, batch.visible.shape) for values in (latents, poses, batch.asset_image)
    )
    is_query = torch.arange(batch.visible.shape[1], device=latents.device) == 0
    return tuple(
        SceneSample(
            latents[scene, rows],
            batch.x_0[scene, rows].float(),
            poses[scene, rows],
            batch.poses[scene, rows],
            images[scene, rows],
            batch.picture.image[scene],
        )
        for scene, rows in enumerate(batch.visible | is_query)
    )
