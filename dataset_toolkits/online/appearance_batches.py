"""Batch sources of the appearance stage: fields at surface voxels, pictures with the latents they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dataset_toolkits.online.recolouring import Recolouring
from dataset_toolkits.online.scene_batches import SceneSource, ShapePool, SourceConfig, step_generator
from dataset_toolkits.online.shape_bank import Triangles, Variants
from dataset_toolkits.online.voxel_fields import FieldGrid, VoxelFields, voxel_fields

_ENCODED_AT_ONCE = 24


@dataclass(frozen=True)
class AppearanceSourceConfig(SourceConfig):
    """What batches of the appearance stage are made of."""

    subdivision: int = 2  # cells along the edge of a voxel, at whose corners fields are given
    anchors: int = 4  # of a voxel, see FieldGrid
    extra_voxels: float = 0.05  # see voxel_fields
    missing_voxels: float = 0.03


def _fields(pool: ShapePool, triangles: Triangles, count: int, generator: torch.Generator) -> VoxelFields:
    config: AppearanceSourceConfig = pool.config
    grid = FieldGrid(config.resolution, config.subdivision, config.anchors, config.surface_samples)
    return voxel_fields(triangles, count, grid, generator, config.extra_voxels, config.missing_voxels)


class FieldSource:
    """Batches with the tensors of `VoxelFields`, of random shapes in random colours."""

    def __init__(self, pool: ShapePool) -> None:
        """``pool``: shapes under an `AppearanceSourceConfig`."""
        self.pool = pool

    def batch(self, step: int) -> Mapping[str, Tensor]:
        """The shapes of ``step``."""
        config, device = self.pool.config, self.pool.device
        _, variants = self.pool.at(step)
        generator = step_generator(device, config, step, "fields")
        count = config.objects_per_step
        rows = torch.randint(config.shapes, (count,), generator=generator, device=device)
        triangles = Recolouring.draw(count, generator).apply(variants.triangles(self.pool.bank, rows))
        return dict(vars(_fields(self.pool, triangles, count, generator)))


@dataclass(frozen=True)
class _LatentPool:
    """Latents of all shapes of a pool, one shape after the other."""

    first: Tensor  # (P,) int64
    length: Tensor  # (P,) int64
    xyz: Tensor  # (sum, 3) uint8 voxels
    latents: Tensor  # (sum, C) float16

    def gather(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (T, 4) int32 and latents (T, C) float32 of the shapes ``rows`` (B,)."""
        lengths = self.length[rows]
        owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), lengths)
        running = torch.arange(len(owner), device=rows.device) - (lengths.cumsum(0) - lengths)[owner]
        place = self.first[rows][owner] + running
        coords = torch.cat([owner[:, None].int(), self.xyz[place].int()], 1)
        return coords, self.latents[place].float()


class LatentPictureSource:
    """Batches {"asset_image": (B, 3, I, I), "coords": (T, 4) int32, "x_0": (T, C)}: objects in scenes.

    Only objects that can be seen. The colours of a shape are drawn with the pool, when its latents are made.
    """

    def __init__(self, pool: ShapePool, encode: Callable[[VoxelFields], Tensor]) -> None:
        """Make a source.

        Args:
            pool: shapes under an `AppearanceSourceConfig`.
            encode: fields at T voxels -> latents (T, C).
        """
        self.pool, self.encode = pool, encode
        self._scenes = _ColouredScenes(pool, self.recolouring)
        self._latents: _LatentPool | None = None
        self._latents_epoch = -1

    def recolouring(self, epoch: int) -> Recolouring:
        """The colours of all shapes of a pool."""
        config = self.pool.config
        generator = step_generator(self.pool.device, config, epoch, "pool colours")
        return Recolouring.draw(config.shapes, generator)

    def batch(self, step: int) -> dict[str, Tensor]:
        """The objects that the pictures of ``step`` show."""
        epoch, variants = self.pool.at(step // self.pool.config.repeat)
        if epoch != self._latents_epoch:
            self._latents, self._latents_epoch = self._encode_pool(epoch, variants), epoch
        scenes = self._scenes.batch(step)
        visible = scenes["visible"].flatten()
        coords, latents = self._latents.gather(scenes["shape"].flatten()[visible])
        return {"asset_image": scenes["asset_image"][visible], "coords": coords, "x_0": latents}

    @torch.no_grad()
    def _encode_pool(self, epoch: int, variants: Variants) -> _LatentPool:
        generator = step_generator(self.pool.device, self.pool.config, epoch, "pool fields")
        colours = self.recolouring(epoch)
        lengths, xyz, latents = [], [], []
        for rows in torch.arange(len(variants.models), device=self.pool.device).split(_ENCODED_AT_ONCE):
            triangles = colours.of(rows).apply(variants.triangles(self.pool.bank, rows))
            fields = _fields(self.pool, triangles, len(rows), generator)
            lengths.append(torch.bincount(fields.coords[:, 0], minlength=len(rows)))
            xyz.append(fields.coords[:, 1:].to(torch.uint8))
            latents.append(self.encode(fields).half())
        length = torch.cat(lengths)
        return _LatentPool(length.cumsum(0) - length, length, torch.cat(xyz), torch.cat(latents))


class _ColouredScenes(SceneSource):
    """Scenes whose objects have the colours of their row in the pool."""

    def __init__(self, pool: ShapePool, colours: Callable[[int], Recolouring]) -> None:
        super().__init__(pool)
        self._colours, self._current = colours, None
        self._epoch = -1

    def _render(self, step: int) -> dict[str, Tensor]:
        epoch, _ = self.pool.at(step)
        if epoch != self._epoch:
            self._current, self._epoch = self._colours(epoch), epoch
        return super()._render(step)

    def _recolouring(self, rows: Tensor, generator: torch.Generator) -> Recolouring:
        return self._current.of(rows)
