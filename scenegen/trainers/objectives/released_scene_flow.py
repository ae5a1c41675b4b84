"""Objective of the released scene flow: velocities of all objects of a photo, and their poses.

The condition is made by frozen encoders, and the loss is that of the released training: mean squared error of
velocities, plus pose errors weighed by the running ratio of the two. What improves on it is off by default.

Source: SceneGen, arXiv:2508.15769, sec. 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scenegen.conditioning.parts import CondParts
from scenegen.conditioning.scene_conditioner import drop_cond
from scenegen.datasets.batch import SceneCaseBatch
from scenegen.datasets.poses import decode_poses
from scenegen.geometry import POSE_SIZE
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.collision import collision_ratio, soft_overlap
from scenegen.trainers.objectives.conditions import ImageFlowSettings, SceneCondition
from scenegen.trainers.objectives.flow_term import FlowStates, draw_states, errors_by_time, time_schedule
from scenegen.trainers.objectives.frozen_networks import frozen_decoder_of_run, frozen_network
from scenegen.trainers.objectives.pose_term import (
    PoseTermSettings,
    PoseWeight,
    pose_errors,
    split_pose,
    weighted_sum,
)
from scenegen.trainers.samples import SceneSample, sample_flow
from trellis_modules.config import ConfigError
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.flow_matching import FlowPath, model_time


@dataclass(frozen=True)
class ReleasedSceneFlowSettings(ImageFlowSettings, PoseTermSettings):
    """Settings with the names and defaults of published configurations, and some of our own.

    Attributes:
        use_collision_loss: add the published collision number, which has no gradient: it only makes the pose
            term weigh less.
        collision_smooth_scale, collision_loss_weight, collision_resolution: of that number.
        pretrained_ss_dec: reference of the structure decoder that collisions are found with.
        ss_dec_path, ss_dec_ckpt: a training run's folder and step, in place of it.
        use_mask_cond, use_scene_image_cond, use_vggt_feature_cond: parts of the condition.
        overlap_weight: of the overlap of the predicted objects at their predicted poses, with gradients;
            0 leaves it out.
        overlap_resolution: points along each object's cube with which the overlap is measured.
        shared_t, shared_dropout: one time, and one decision to drop the condition, for all objects of a
            scene, as they have when scenes are made; the released training draws one for each object.
        normalize_geometry: see `SceneConditioner`.
    """

    use_collision_loss: bool = False
    collision_smooth_scale: float = 0.1
    collision_loss_weight: float = 1.0
    collision_resolution: int = 128
    pretrained_ss_dec: str | None = "JeffreyXiang/TRELLIS-image-large/ckpts/ss_dec_conv3d_16l8_fp16"
    ss_dec_path: str | None = None
    ss_dec_ckpt: str | None = None
    use_mask_cond: bool = True
    use_scene_image_cond: bool = True
    use_vggt_feature_cond: bool = True
    overlap_weight: float = 0.0
    overlap_resolution: int = 32
    shared_t: bool = False
    shared_dropout: bool = False
    normalize_geometry: bool = False

    def __post_init__(self) -> None:
        ImageFlowSettings.__post_init__(self)
        PoseTermSettings.__post_init__(self)

    @property
    def parts(self) -> CondParts:
        """The parts of the condition."""
        return CondParts(self.use_mask_cond, self.use_scene_image_cond, self.use_vggt_feature_cond)

    def structure_decoder(self) -> nn.Module:
        """The frozen decoder that turns latents into voxels.

        Raises:
            CheckpointError: it is missing or damaged.
            ConfigError: none is named.
        """
        if self.ss_dec_path is not None:
            return frozen_decoder_of_run(Path(self.ss_dec_path), self.ss_dec_ckpt or "")
        if self.pretrained_ss_dec is None:
            raise ConfigError(
                "trainer.pretrained_ss_dec: expected a structure decoder, with which collisions are found, "
                "got none; name one, or set use_collision_loss to false and overlap_weight to 0"
            )
        return frozen_network(self.pretrained_ss_dec)


class ReleasedSceneFlowObjective(Objective):
    """Trains ``denoiser`` on scenes, each with one of its objects as the query.

    The query comes first and has no pose error. A scene of a single object has no pose term.
    """

    batch_type = SceneCaseBatch
    places_objects = True

    def __init__(self, denoiser: nn.Module, config: ReleasedSceneFlowSettings) -> None:
        super().__init__()
        self.denoiser, self.config = denoiser, config
        self.condition = SceneCondition(config.image_encoder(), config.parts, config.normalize_geometry)
        self.pose_weight = PoseWeight(config.position_weight_min_ratio, config.position_weight_max_ratio)
        self.path, self.schedule = FlowPath(config.sigma_min), time_schedule(config.t_schedule)
        if config.use_collision_loss or config.overlap_weight:
            self.decoder = config.structure_decoder()

    def forward(self, batch: SceneCaseBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Velocity error, and the weighed pose term of scenes with more than one object.

        Raises:
            ConfigError: data and network have different poses, these do not fit the loss, or see
                `SceneCondition`.
        """
        config, x_0 = self.config, batch.x_0.float()
        count, device = len(x_0), x_0.device
        cond, num_object_tokens = self.condition(batch)
        t = self.schedule.sample(1 if config.shared_t else count, generator=generator, device=device)
        states = draw_states(self.path, x_0, t.expand(count), generator)
        draws = torch.rand(1 if config.shared_dropout else count, generator=generator, device=device)
        output = self.denoiser(
            states.x_t,
            model_time(states.t, count, device),
            drop_cond(cond, (draws < config.p_uncond).expand(count)),
            num_object_tokens=num_object_tokens,
        )
        errors = states.errors(output.velocity)
        mse = errors.mean()
        logs = {"mse": mse, **errors_by_time(errors, states.t)}
        poses = output.extras["positions"].float()
        self._check_poses(poses, batch.positions)
        if count == 1:  # every trained tensor gets a gradient, which processes that share a model rely on
            return mse + 0 * poses.sum(), {name: value.detach() for name, value in logs.items()}
        term, pose_logs = self._pose_term(states, output.velocity, poses, batch.positions.float())
        weight, ratio = self.pose_weight(mse, term)
        logs |= {**pose_logs, "pos_loss": term, "pos_weight": weight, "pos_ratio": ratio}
        return mse + weight * term, {name: value.detach() for name, value in logs.items()}

    def _check_poses(self, poses: Tensor, target: Tensor) -> None:
        """Refuse poses of which the loss cannot be made."""
        if poses.shape != target.shape:
            raise ConfigError(
                f"pose_encoding_type: expected one kind of poses, got {target.shape[-1]} numbers from the "
                f"data and {poses.shape[-1]} from the network; set it alike for both"
            )
        if poses.shape[-1] != POSE_SIZE and (
            self.config.overlap_weight or self.config.rotation_loss != "plain"
        ):
            raise ConfigError(
                "pose_encoding_type: expected absT_quatR_S, which overlap_weight and rotation_loss need, got "
                "angles; set them to 0 and plain, or take quaternions"
            )

    def samples(
        self, batch: SceneCaseBatch, generator: torch.Generator, params: SamplingParams
    ) -> tuple[SceneSample, ...]:
        """The scene of the batch."""
        cond, num_object_tokens = self.condition(batch)
        flow = partial(self.denoiser, num_object_tokens=num_object_tokens)
        latents, poses = sample_flow(
            flow, batch.x_0.float(), cond, torch.zeros_like(cond), generator, self.config.sigma_min, params
        )
        sample = SceneSample(
            latents, batch.x_0, poses, batch.positions.float(), batch.cond, batch.scene_image
        )
        return (sample,)

    def end_step(self, logs: Mapping[str, Tensor]) -> None:
        """Keep the running ratio of velocity error to pose term."""
        if "pos_ratio" in logs:
            self.pose_weight.end_step(logs["pos_ratio"])

    def _pose_term(
        self, states: FlowStates, velocity: Tensor, poses: Tensor, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted errors of the poses, with collisions where they are asked for; mean differences to log."""
        config = self.config
        is_target = torch.arange(len(poses), device=poses.device) > 0
        errors = pose_errors(
            poses, target, is_target, config.smooth_scale, rotations=config.rotation_loss, scales="plain"
        )
        term = weighted_sum(errors, config)
        true = split_pose(target[1:])
        differences = {name: (part - true[name]).abs().mean() for name, part in split_pose(poses[1:]).items()}
        logs = {
            "trans_loss": differences["translation"],
            "rot_loss": differences["rotation"],
            "scale_loss": differences["scale"],
        }
        if config.use_collision_loss:
            with torch.no_grad():
                occupied = self.decoder(states.x_0(velocity))[:, 0] > 0
            logs["collision_ratio"] = ratio = collision_ratio(
                occupied, decode_poses(target), config.collision_resolution
            )
            smooth = config.collision_smooth_scale
            error = smooth * F.smooth_l1_loss(ratio / smooth, torch.zeros_like(ratio))
            term = term + config.collision_loss_weight * error
        if config.overlap_weight:
            logits = self.decoder(states.x_0(velocity))[:, 0]
            logs["overlap"] = soft_overlap(logits, poses, config.overlap_resolution)
            term = term + config.overlap_weight * logs["overlap"]
        return term, logs
