"""Sources of pictures of scenes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from scenegen.datasets.batch import Batch
from scenegen.datasets.latest import Latest
from scenegen.datasets.source import batch_number
from scenegen.synthesis.shapes.shape_bank import Variants
from scenegen.synthesis.sources.batch import SceneBatch, SceneLatentBatch, ScenePairBatch
from scenegen.synthesis.sources.scene_studio import SceneStudio
from scenegen.synthesis.sources.shape_pool import ShapePool, step_generator

_ENCODED_AT_ONCE = 128

B = TypeVar("B", bound=Batch)


class PictureSource(ABC, Generic[B]):
    """Base of the sources that take pictures; with ``repeat``, steps in a row share their batches."""

    def __init__(self, pool: ShapePool) -> None:
        """``pool``: the shapes that scenes are composed of."""
        self.pool, self.config, self.studio = pool, pool.config, SceneStudio(pool)
        self._batches: defaultdict[int, Latest[B]] = defaultdict(Latest)  # by slot

    def batch(self, step: int, slot: int = 0, slots: int = 1) -> B:
        """The scenes of a slot; with ``repeat``, the same object as for the steps before."""
        number = batch_number(step // self.config.repeat, slot, slots)
        return self._batches[slot].get(number, lambda: self._make(number))

    @abstractmethod
    def _make(self, number: int) -> B:
        """The pictures with a number, counted from 0 on."""


class SceneSource(PictureSource[SceneBatch]):
    """Batches of scenes seen once."""

    def _make(self, number: int) -> SceneBatch:
        shot = self.studio.shoot(number, self.studio.generator(number))
        return shot.scene_batch(self.config.image_size, self.config.patch_grid)


class ScenePairSource(PictureSource[ScenePairBatch]):
    """Batches of scenes seen twice."""

    def _make(self, number: int) -> ScenePairBatch:
        generator = self.studio.generator(number)
        shot = self.studio.shoot(number, generator)
        return ScenePairBatch(
            shot.scene_picture(self.config.image_size), self.studio.from_elsewhere(shot, generator)
        )


class PoolLatents:
    """Latents of the shapes of a pool, which are encoded once, when the pool is drawn."""

    def __init__(self, pool: ShapePool, encode: Callable[[Tensor], Tensor]) -> None:
        """Make ready.

        Args:
            pool: the shapes.
            encode: occupancy (K, 1, R, R, R) float -> latents (K, C, r, r, r).
        """
        self.pool, self.encode = pool, encode
        self._latents: Latest[Tensor] = Latest()

    def at(self, number: int) -> Tensor:
        """Latents (P, C, r, r, r) of all shapes that the batch of a number is made of."""
        epoch, variants = self.pool.at(number)
        return self._latents.get(epoch, lambda: self._encoded(epoch, variants))

    @torch.no_grad()
    def _encoded(self, epoch: int, variants: Variants) -> Tensor:
        generator = step_generator(self.pool.device, self.pool.config, epoch, "encode")
        rows = torch.arange(len(variants.models), device=self.pool.device)
        return torch.cat(
            [
                self.encode(self.pool.occupancy(variants, part, generator).float())
                for part in rows.split(_ENCODED_AT_ONCE)
            ]
        )


class SceneLatentSource(PictureSource[SceneLatentBatch]):
    """Batches of scenes with the latents of their objects."""

    def __init__(self, pool: ShapePool, encode: Callable[[Tensor], Tensor]) -> None:
        """Make a source; for the arguments see `PoolLatents`."""
        super().__init__(pool)
        self.latents = PoolLatents(pool, encode)

    def _make(self, number: int) -> SceneLatentBatch:
        shot = self.studio.shoot(number, self.studio.generator(number))
        scenes = shot.scene_batch(self.config.image_size, self.config.patch_grid)
        return SceneLatentBatch(**vars(scenes), x_0=self.latents.at(number)[shot.shape])
