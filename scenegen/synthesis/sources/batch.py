"""Typed batches, one class for each kind of source.

S scenes hold N objects each; B = S * N objects follow each other scene by scene. Colours are in [0, 1]; poses
and frames are those of `scenegen.geometry`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from scenegen.synthesis.shapes.voxel_fields import PaintedFields

_Batch = TypeVar("_Batch", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """Base of the batches: every field is a tensor or a dataclass of tensors."""

    def map(self: _Batch, change: Callable[[Tensor], Tensor]) -> _Batch:
        """The same batch of changed tensors."""
        return _mapped(self, change)

    def tensors(self) -> Iterator[Tensor]:
        """All tensors, always in the same order."""
        yield from _tensors(self)

    def to(self: _Batch, device: torch.device) -> _Batch:
        """The batch on a device."""
        return self.map(lambda value: value.to(device))

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory of tensors on a GPU until the work that a stream has queued is done."""
        for value in self.tensors():
            if value.is_cuda:
                value.record_stream(stream)

    def shapes(self) -> Hashable:
        """Equal for batches that fit into each other by `copy_`."""
        return type(self), tuple((value.shape, value.dtype) for value in self.tensors())

    def copy_(self, other: Batch) -> None:
        """Overwrite the tensors with those of a batch of the same `shapes`."""
        for value, new in zip(self.tensors(), other.tensors(), strict=True):
            value.copy_(new)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    for part in fields(value):
        yield from _tensors(getattr(value, part.name))


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    return replace(value, **{f.name: _mapped(getattr(value, f.name), change) for f in fields(value)})


@dataclass(frozen=True)
class ShapeBatch(Batch):
    """Shapes alone."""

    occupancy: Tensor  # (B, 1, R, R, R) bool, surface voxels, axes x, y, z of the object's z-up frame


@dataclass(frozen=True)
class PhotoBatch:
    """What cameras see of S scenes."""

    image: Tensor  # (S, 3, I, I)
    depth: Tensor  # (S, I, I) metres; inf where there is nothing
    extrinsics: Tensor  # (S, 4, 4) world to camera, OpenCV
    focal: Tensor  # (S,) in units of the picture's width


@dataclass(frozen=True)
class SceneBatch(Batch):
    """Pictures of scenes; object 0 of each scene is the query."""

    picture: PhotoBatch
    asset_image: Tensor  # (B, 3, I, I) crops on black
    mask_image: Tensor  # (B, 3, I, I) masks in the whole picture
    object_points: Tensor  # (B, 4, G, G), see `Shot.object_points`
    poses: Tensor  # (S, N, 8) in the frame of the query
    world_poses: Tensor  # (S, N, 8) in metres
    visible: Tensor  # (S, N) bool; the others are drawn and attended to, but not trained on


@dataclass(frozen=True)
class SceneLatentBatch(SceneBatch):
    """Pictures of scenes with the latents of their objects."""

    x_0: Tensor  # (S, N, C, r, r, r)


@dataclass(frozen=True)
class ScenePairBatch(Batch):
    """Scenes seen twice, with the same focal length from two places."""

    first: PhotoBatch
    second: PhotoBatch


@dataclass(frozen=True)
class FieldBatch(Batch):
    """Painted fields at the T surface voxels of B shapes."""

    fields: PaintedFields
    normal: Tensor  # (T, C, 3) at the corners of voxels, see `VoxelFields`


@dataclass(frozen=True)
class LatentPictureBatch(Batch):
    """Pictures of single objects with the latents at their T voxels."""

    asset_image: Tensor  # (B, 3, I, I) crops on black
    coords: Tensor  # (T, 4) int32 (object, x, y, z)
    x_0: Tensor  # (T, C)
    crop_projection: Tensor  # (B, 3, 4), see `crop_projections`
