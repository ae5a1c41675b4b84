"""Measurements on samples that are not learned from: the loss, and how objects are placed."""

from __future__ import annotations

import torch
from torch import Tensor

from scenegen.datasets.poses import decode_poses
from scenegen.datasets.source import BatchSource
from scenegen.geometry import pose_differences, sanitize_pose
from scenegen.trainers.distributed import World
from scenegen.trainers.objective import Objective
from scenegen.trainers.samples import SceneSample, as_used
from trellis_modules.samplers import SamplingParams

VALIDATION = "validation"
SAMPLING = SamplingParams(steps=10, cfg_strength=3.0)
"""Poses hardly depend on the number of steps."""

BATCHES = 8
POSE_FIGURES = ("translation_error", "rotation_error_deg", "log_scale_error")
_SEED = 0


class Validation:
    """Measures an objective on the validation part of its data, every time with the same noise.

    The figures are those that the loss logs, named ``validation/...``, and of objectives that sample scenes
    the mean errors of the poses of targets: ``translation_error`` in longest sides of the query,
    ``rotation_error_deg`` and ``log_scale_error``. The loss, "validation", decides which state is best.
    """

    def __init__(
        self, objective: Objective, source: BatchSource, every: int, world: World, batches: int = BATCHES
    ) -> None:
        """Take what is measured.

        Args:
            objective: as it is trained.
            source: of the validation part.
            every: steps between two measurements.
            world: of the processes, which share the batches out.
            batches: that each process measures.
        """
        self.every, self.objective, self.source, self.world = every, objective, source, world
        self.batches = batches

    def __call__(self, step: int, suffix: str) -> dict[str, float]:
        """Measure; all processes together."""
        figures: dict[str, list[Tensor]] = {}
        with as_used(self.objective):
            for number in range(self.batches):
                for name, values in self._figures(number).items():
                    figures.setdefault(name, []).append(values.flatten().double())
        told = means(self.world.gather({name: _sum(torch.cat(values)) for name, values in figures.items()}))
        return {VALIDATION: told.pop("loss"), **{f"{VALIDATION}/{name}": told[name] for name in told}}

    def _figures(self, number: int) -> dict[str, Tensor]:
        batch = self.source.batch(number, self.world.rank, self.world.size)
        device = next(batch.tensors()).device
        generator = torch.Generator(device).manual_seed(_SEED + number * self.world.size + self.world.rank)
        decisions = self.objective.decide(torch.Generator().manual_seed(generator.initial_seed()))
        loss, logs = self.objective(batch, generator, *decisions)
        if not self.objective.places_objects:
            return {"loss": loss, **logs}
        return {"loss": loss, **logs, **pose_figures(self.objective.samples(batch, generator, SAMPLING))}


def _sum(values: Tensor) -> tuple[float, int]:
    """Sum and number of the values that are not NaN."""
    told = values[~values.isnan()]
    return float(told.sum()), len(told)


def pose_figures(samples: tuple[SceneSample, ...]) -> dict[str, Tensor]:
    """Errors (T,) of the poses of the T targets of all scenes, by the names of `POSE_FIGURES`, if any."""
    scenes = [sample for sample in samples if sample.poses is not None and len(sample.poses) > 1]
    if not scenes:
        return {}
    predicted = torch.cat([decode_poses(sample.poses)[1:] for sample in scenes])
    truth = torch.cat([decode_poses(sample.true_poses)[1:] for sample in scenes])
    differences = pose_differences(sanitize_pose(predicted), sanitize_pose(truth))
    return {name: differences[name] for name in POSE_FIGURES}


def means(sums: list[dict[str, tuple[float, int]]]) -> dict[str, float]:
    """The figures of all processes together: their means; those that nothing told are left out."""
    totals: dict[str, tuple[float, int]] = {}
    for told in sums:
        for name, (value, count) in told.items():
            before = totals.get(name, (0.0, 0))
            totals[name] = before[0] + value, before[1] + count
    return {name: value / count for name, (value, count) in totals.items() if count}
