"""How near generated structures are to the true ones, in the frames of their objects."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scenegen.synthesis.sources.batch import ObjectLatentBatch
from scenegen.trainers.objectives.object_flow import ObjectFlowObjective
from trellis_modules.samplers import SamplingParams

TOLERANCES = {"fscore": 0.1 / 1.96, "fine_fscore": 0.025}
"""In longest sides: as `scenegen.evaluation` has it for an object as large as its scene, and half of that."""

SAMPLING = SamplingParams(steps=12, rescale_t=3.0, cfg_strength=2.0, cfg_interval=(0.5, 1.0))
"""As the small model is sampled."""

_DECODED_AT_ONCE = 32
_SEED = 0


def structure_figures(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Compare structures (B, 1, R, R, R) bool where they are: nothing is moved, turned or scaled.

    Returns:
        (B,) each: the F-scores of `TOLERANCES`, the harmonic mean of the shares of predicted and of true
        voxels that have one of the others within the tolerance between their middles; "iou", what both share
        over what either has. All are 0 where one is empty.
    """
    figures = {name: _f_score(predicted, true, tolerance) for name, tolerance in TOLERANCES.items()}
    both, either = ((predicted & true).flatten(1).sum(1), (predicted | true).flatten(1).sum(1))
    return figures | {"iou": both / either.clamp(min=1)}


def _f_score(predicted: Tensor, true: Tensor, tolerance: float) -> Tensor:
    shares = []
    for ours, others in ((predicted, true), (true, predicted)):
        near = ours & _grown(others, tolerance * ours.shape[-1])
        shares.append(near.flatten(1).sum(1) / ours.flatten(1).sum(1).clamp(min=1))
    precision, recall = shares
    return 2 * precision * recall / (precision + recall).clamp(min=1e-9)


def _grown(structures: Tensor, radius: float) -> Tensor:
    """All voxels nearer than so many voxels to one of the structures (B, 1, R, R, R) bool."""
    reach = math.ceil(radius) - 1
    line = torch.arange(-reach, reach + 1, device=structures.device)
    x, y, z = torch.meshgrid(line, line, line, indexing="ij")
    ball = (x**2 + y**2 + z**2 < radius**2).float()[None, None]
    parts = structures.split(_DECODED_AT_ONCE)
    return torch.cat([F.conv3d(part.float(), ball, padding=reach) > 0.5 for part in parts])


class StructureFigures:
    """A watcher that samples the structures of the same pictures again and again, with the same noise.

    The figures are those of `structure_figures`, named ``structure/fscore`` and so on: means over the objects
    that are visible.
    """

    def __init__(
        self,
        objective: ObjectFlowObjective,
        batch: ObjectLatentBatch,
        true: Tensor,
        decoder: nn.Module,
        every: int,
        autocast: Callable[[], AbstractContextManager] = nullcontext,
    ) -> None:
        """Take what is looked at.

        Args:
            objective: as it is trained.
            batch: pictures that are not learnt from.
            true: (B, 1, R, R, R) bool, their structures.
            decoder: of latents, on the device of the batch.
            every: steps between two looks.
            autocast: the precision that is sampled in.
        """
        self.objective, self.batch, self.true, self.decoder = objective, batch, true, decoder
        self.every, self.autocast = every, autocast

    def __call__(self, step: int, suffix: str) -> dict[str, float]:
        """Sample and compare; see the class."""
        return {f"structure/{name}": value for name, value in self.measure().items()}

    @torch.no_grad()
    def measure(self) -> dict[str, float]:
        """Mean figures of the networks as they are."""
        generator = torch.Generator(self.true.device).manual_seed(_SEED)
        with self.autocast():
            latents = self.objective.sample_latents(self.batch, generator, SAMPLING)
        predicted = decoded(self.decoder, latents)
        seen = self.batch.visible
        figures = structure_figures(predicted[seen], self.true[seen])
        return {name: float(values.mean()) for name, values in figures.items()}


@torch.no_grad()
def decoded(decoder: nn.Module, latents: Tensor) -> Tensor:
    """Structures (B, 1, R, R, R) bool of latents (B, C, r, r, r)."""
    return torch.cat([decoder(part.float()) > 0 for part in latents.split(_DECODED_AT_ONCE)])
