"""Objective of a scene flow that needs few steps: it learns to jump along the samples of another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from scenegen.synthesis.sources.batch import SceneLatentBatch
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.losses import masked_mean
from scenegen.trainers.objectives.pose_term import pose_errors, weighted_sum
from scenegen.trainers.objectives.scene_flow import conditioner_of, shown_scene_samples
from scenegen.trainers.samples import POSITION_TOKENS, POSITIONS, SceneSample
from trellis_modules.config import check_range
from trellis_modules.samplers import FlowEulerSampler, SamplingParams
from trellis_modules.samplers.flow_euler import sampling_times
from trellis_modules.samplers.flow_matching import model_time


@dataclass(frozen=True)
class SceneFlowDistillationConfig:
    """How the teacher samples, which of its states the student passes, and the weights of the terms.

    Attributes:
        steps: of the student.
        teacher_steps: a multiple of them.
        rescale_t, cfg_strength, cfg_interval: of the teacher's samples; the student needs no guidance.
        sigma_min: of the path.
        trans_weight, rot_weight, scale_weight: of differences between the student's and the teacher's poses.
        smooth_scale: see `pose_errors`.
        p_no_scene: steps in which every asset attends to itself alone, in both networks.
        append_places: see `SceneConditioner`.
    """

    steps: int = 4
    teacher_steps: int = 12
    rescale_t: float = 3.0
    cfg_strength: float = 2.0
    cfg_interval: tuple[float, float] = (0.5, 1.0)
    sigma_min: float = 1e-5
    trans_weight: float = 3.0
    rot_weight: float = 3.0
    scale_weight: float = 1.0
    smooth_scale: float = 0.02
    p_no_scene: float = 0.1
    append_places: bool = False

    def __post_init__(self) -> None:
        check_range("trainer.steps", self.steps, 1)
        if self.teacher_steps < self.steps or self.teacher_steps % self.steps:
            raise ValueError(
                f"trainer.teacher_steps: expected a multiple of trainer.steps ({self.steps}), "
                f"got {self.teacher_steps}"
            )


class SceneFlowDistillation(Objective):
    """Trains ``flow`` to follow the samples of ``teacher`` in fewer steps and without guidance.

    The teacher makes a whole sample of each scene, with guidance. Between two of the student's times its
    states move by some mean velocity: that is what the student is to predict from the earlier of the two
    states, and in its last step the teacher's last poses. So nothing is learnt from true shapes, and the
    student generalises as the teacher does. ``image_encoder`` and ``geometry_encoder`` are those that the
    teacher was trained with; they and the teacher are to be frozen.

    Source: Salimans and Ho, "Progressive Distillation for Fast Sampling of Diffusion Models",
    arXiv:2202.00512, with all halvings at once; Meng et al., arXiv:2210.03142, for guidance.
    """

    batch_type = SceneLatentBatch
    places_objects = True

    def __init__(
        self,
        flow: nn.Module,
        teacher: nn.Module,
        image_encoder: nn.Module,
        geometry_encoder: nn.Module,
        config: SceneFlowDistillationConfig,
    ) -> None:
        super().__init__()
        self.flow, self.teacher = flow, teacher
        self.image_encoder, self.geometry_encoder = image_encoder, geometry_encoder
        self.config = config
        self.conditioner = conditioner_of(image_encoder, geometry_encoder, config.append_places)
        self.sampler = FlowEulerSampler(config.sigma_min)
        self.student_params = SamplingParams(config.steps, config.rescale_t, cfg_strength=0.0)
        self.teacher_params = SamplingParams(
            config.teacher_steps, config.rescale_t, config.cfg_strength, tuple(config.cfg_interval)
        )

    def train(self, mode: bool = True) -> SceneFlowDistillation:
        """Train the student; the teacher always samples as it does in use."""
        super().train(mode)
        self.teacher.eval()
        return self

    def decide(self, generator: torch.Generator) -> tuple[bool]:
        """Whether assets are alone: the loss is without scene attention."""
        return (float(torch.rand((), generator=generator)) < self.config.p_no_scene,)

    def forward(
        self, batch: SceneLatentBatch, generator: torch.Generator, alone: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Velocity error of visible assets, weighted by the length of the step, and pose differences."""
        config, (num_scenes, num_assets) = self.config, batch.visible.shape
        cond, num_object_tokens = self._condition(batch)
        is_query = (torch.arange(num_assets, device=cond.device) == 0).repeat(num_scenes)
        scene_size = 1 if alone else num_assets
        noise = torch.randn((len(cond), *batch.x_0.shape[2:]), generator=generator, device=cond.device)
        states, poses = self._teacher_states(noise, cond, num_object_tokens, scene_size, is_query)
        times = sampling_times(config.steps, config.rescale_t)
        t = torch.cat([model_time(time, len(noise), noise.device) for time in times[:-1]])
        output = self.flow(
            torch.cat(states[:-1]),
            t,
            cond,
            num_object_tokens=num_object_tokens,
            scene_size=scene_size,
            is_query=is_query.repeat(config.steps),
            cond_repeats=config.steps,
        )
        error = (output.velocity.float() - torch.cat(mean_velocities(states, times))).square().flatten(1)
        visible = batch.visible.flatten().float()
        steps = [masked_mean(row, visible) for row in error.mean(1).unflatten(0, (config.steps, -1))]
        mse = sum((t - later) * step for t, later, step in zip(times, times[1:], steps))
        shape = num_scenes, num_assets
        errors = pose_errors(
            output.extras[POSITIONS][-len(noise) :].float().unflatten(0, shape),
            poses.unflatten(0, shape),
            batch.visible & ~is_query.unflatten(0, shape),
            config.smooth_scale,
        )
        logs = {"mse": mse, **{f"step_{number}": step for number, step in enumerate(steps)}, **errors}
        return mse + weighted_sum(errors, config), {name: value.detach() for name, value in logs.items()}

    def shown(self, batch: SceneLatentBatch) -> SceneLatentBatch:
        """The first of the scenes."""
        return batch.scene(0)

    def samples(
        self, batch: SceneLatentBatch, generator: torch.Generator, params: SamplingParams
    ) -> tuple[SceneSample, ...]:
        """Each of the scenes, in the student's own steps whatever ``params`` asks for."""
        cond, num_object_tokens = self._condition(batch)
        flow = partial(self.flow, num_object_tokens=num_object_tokens, scene_size=batch.visible.shape[1])
        like = batch.x_0.flatten(0, 1)
        noise = torch.randn(like.shape, generator=generator, device=like.device)
        result = self.sampler.sample(flow, noise, cond, params=self.student_params)
        return shown_scene_samples(batch, result.samples, result.last(POSITIONS).float())

    def _condition(self, batch: SceneLatentBatch) -> tuple[Tensor, int]:
        with torch.no_grad():
            return self.conditioner.encode_tensors(batch.asset_image, batch.mask_image, batch.picture.image)

    def _teacher_states(
        self, noise: Tensor, cond: Tensor, num_object_tokens: int, scene_size: int, is_query: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """The teacher's states at the student's times, from noise to data, and its last poses (B, 8)."""
        teacher = partial(self.teacher, scene_size=scene_size, is_query=is_query, regress_poses=False)
        with torch.no_grad():
            contexts = [
                self.teacher.precompute_context(each, num_object_tokens)
                for each in (cond, torch.zeros_like(cond))
            ]
            result = self.sampler.sample(
                teacher, noise, *contexts, self.teacher_params, record_trajectory=True
            )
            poses = self.teacher.poses(result.last(POSITION_TOKENS), is_query=is_query).float()
        stride = self.config.teacher_steps // self.config.steps
        return [noise, *result.pred_x_t[stride - 1 :: stride]], poses


def mean_velocities(states: Sequence[Tensor], times: Sequence[float]) -> list[Tensor]:
    """The velocities with which Euler steps from each state to the next one lead exactly there.

    Args:
        states: S + 1, in the order of the times.
        times: S + 1, falling.
    """
    return [
        (later - earlier) / (t_later - t_earlier)
        for earlier, later, t_earlier, t_later in zip(states, states[1:], times, times[1:])
    ]
