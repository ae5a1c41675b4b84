"""Objectives of flows of single objects: structure latents, and structured latents at voxels.

The trainers of published configurations differ in what the flow is conditioned on, which is a part of the
settings: nothing, ready tokens, pictures or captions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from scenegen.datasets.batch import LatentBatch, SparseLatentBatch
from scenegen.trainers.objective import Objective
from scenegen.trainers.objectives.conditions import AssetCondition, AssetFlowSettings
from scenegen.trainers.objectives.flow_term import draw_states, errors_by_time, time_schedule
from scenegen.trainers.samples import SHOWN, LatentSample, SceneSample, sample_flow
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.flow_matching import FlowPath, model_time
from trellis_modules.sparse import SparseTensor


class _AssetFlowObjective(Objective):
    """What both have: a ``denoiser``, times and conditions of the objects of a batch."""

    def __init__(self, denoiser: nn.Module, config: AssetFlowSettings) -> None:
        super().__init__()
        self.denoiser, self.config = denoiser, config
        self.condition: AssetCondition = config.condition(denoiser.config.cond_channels)
        self.path, self.schedule = FlowPath(config.sigma_min), time_schedule(config.t_schedule)

    def _times_and_condition(
        self, batch: LatentBatch | SparseLatentBatch, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Times (B,), and conditions (B, L, C), some of them dropped."""
        device = batch.x_0.device
        cond = self.condition(batch, count)
        t = self.schedule.sample(count, generator=generator, device=device)
        dropped = torch.rand(count, generator=generator, device=device) < self.config.p_uncond
        return t, self.condition.drop(cond, dropped)


class DenseFlowObjective(_AssetFlowObjective):
    """Trains ``denoiser`` on structure latents: mean squared error of velocities."""

    batch_type = LatentBatch

    def forward(self, batch: LatentBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Velocity error; errors by time are logged apart."""
        x_0 = batch.x_0.float()
        t, cond = self._times_and_condition(batch, len(x_0), generator)
        states = draw_states(self.path, x_0, t, generator)
        output = self.denoiser(states.x_t, model_time(t, len(t), t.device), cond)
        errors = states.errors(output.velocity)
        return errors.mean(), {"mse": errors.mean().detach(), **errors_by_time(errors, t)}

    def samples(
        self, batch: LatentBatch, generator: torch.Generator, params: SamplingParams
    ) -> tuple[SceneSample, ...]:
        """Four of the objects of the batch."""
        cond = self.condition(batch, len(batch.x_0))[:SHOWN]
        x_0 = batch.x_0.float()[:SHOWN]
        latents, _ = sample_flow(
            self.denoiser, x_0, cond, self.condition.empty(cond), generator, self.config.sigma_min, params
        )
        return (SceneSample(latents, x_0, images=None if batch.image is None else batch.image[:SHOWN]),)


class SparseFlowObjective(_AssetFlowObjective):
    """Trains ``denoiser`` on structured latents: mean squared error of velocities, a voxel like any other."""

    batch_type = SparseLatentBatch

    def forward(
        self, batch: SparseLatentBatch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Velocity error; errors by time, of whole objects, are logged apart."""
        owner = batch.coords[:, 0].long()
        count = batch.num_objects
        t, cond = self._times_and_condition(batch, count, generator)
        states = draw_states(self.path, batch.x_0.float(), t[owner], generator)
        x_t = SparseTensor(states.x_t, batch.coords, count)
        output = self.denoiser(x_t, model_time(t, count, t.device), cond)
        errors = states.errors(output.velocity.feats)  # (T,)
        sums = errors.new_zeros(count).index_add(0, owner, errors.detach())
        voxels = errors.new_zeros(count).index_add(0, owner, torch.ones_like(errors)).clamp(min=1)
        mse = errors.mean()
        return mse, {"mse": mse.detach(), **errors_by_time(sums / voxels, t)}

    def samples(
        self, batch: SparseLatentBatch, generator: torch.Generator, params: SamplingParams
    ) -> tuple[LatentSample, ...]:
        """Four of the objects of the batch."""
        cond = self.condition(batch, batch.num_objects)[:SHOWN]
        true = SparseTensor(batch.x_0.float(), batch.coords, batch.num_objects)[:SHOWN]
        latents, _ = sample_flow(
            self.denoiser, true, cond, self.condition.empty(cond), generator, self.config.sigma_min, params
        )
        return (LatentSample(latents, true, None if batch.image is None else batch.image[:SHOWN]),)
