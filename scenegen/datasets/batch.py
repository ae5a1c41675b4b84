"""Typed batches of stored data sets, and the base of all batches.

N objects of a scene follow each other, the query first; B counts objects, T sparse voxels. Colours are in
[0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

_Batch = TypeVar("_Batch", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """Base of the batches: a field is a tensor, a dataclass or tuple of such, text, a number, or None."""

    def map(self: _Batch, change: Callable[[Tensor], Tensor]) -> _Batch:
        """The same batch of changed tensors."""
        return _mapped(self, change)

    def tensors(self) -> Iterator[Tensor]:
        """All tensors, always in the same order."""
        yield from _tensors(self)

    def to(self: _Batch, device: torch.device) -> _Batch:
        """The batch on a device; a copy from pinned memory does not wait for the work queued there."""
        return self.map(lambda value: value.to(device, non_blocking=device.type == "cuda"))

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory of tensors on a GPU until the work that a stream has queued is done."""
        for value in self.tensors():
            if value.is_cuda:
                value.record_stream(stream)

    def shapes(self) -> Hashable:
        """Equal for batches that fit into each other by `copy_`, which leaves texts and numbers alone."""
        plain = tuple(value for field in fields(self) if _is_plain(value := getattr(self, field.name)))
        return type(self), tuple((value.shape, value.dtype) for value in self.tensors()), plain

    def copy_(self, other: Batch) -> None:
        """Overwrite the tensors with those of a batch of the same `shapes`."""
        for value, new in zip(self.tensors(), other.tensors(), strict=True):
            value.copy_(new)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int) or isinstance(value, tuple) and any(map(_is_plain, value))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors(part)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _tensors(getattr(value, field.name))


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_mapped(part, change) for part in value)
    if is_dataclass(value):
        return replace(value, **{f.name: _mapped(getattr(value, f.name), change) for f in fields(value)})
    return value


@dataclass(frozen=True)
class ShapeBatch(Batch):
    """Shapes alone."""

    occupancy: Tensor  # (B, 1, R, R, R) bool, surface voxels, axes x, y, z of the object's z-up frame


@dataclass(frozen=True)
class SceneCaseBatch(Batch):
    """One scene with one of its objects as the query: what the scene flow sees and what it is to predict."""

    x_0: Tensor  # (N, 8, 16, 16, 16) latents of the structures
    positions: Tensor  # (N, 8), or (N, 7) with angles, in the frame of the query
    cond: Tensor | None = None  # (N, 3, S, S) cut-outs on black
    mask_cond: Tensor | None = None  # (N, 3, S, S) masks of the whole photo
    scene_image: Tensor | None = None  # (3, S, S)
    vggt_feature: Tensor | None = None  # (1, P, 2C) the photo's geometry feature
    cond_tokens: Tensor | None = None  # (N, L, C) ready condition, in place of the four above
    num_object_tokens: int | None = None  # of the ready condition: at its front, which show the object itself

    @property
    def scene_size(self) -> int:
        """N."""
        return len(self.positions)


@dataclass(frozen=True)
class LatentBatch(Batch):
    """Structure latents of single objects, with what a conditioned flow sees of each."""

    x_0: Tensor  # (B, 8, 16, 16, 16)
    image: Tensor | None = None  # (B, 3, S, S) cut-outs on black
    captions: tuple[str, ...] = ()  # B, of text-conditioned flows
    cond_tokens: Tensor | None = None  # (B, L, C) ready condition, in place of the picture


@dataclass(frozen=True)
class SparseLatentBatch(Batch):
    """Structured latents of single objects, with what a conditioned flow sees of each."""

    coords: Tensor  # (T, 4) int32 (object, x, y, z)
    x_0: Tensor  # (T, C)
    image: Tensor | None = None  # (B, 3, S, S) cut-outs on black
    captions: tuple[str, ...] = ()  # B
    cond_tokens: Tensor | None = None  # (B, L, C) ready condition, in place of the picture

    @property
    def num_objects(self) -> int:
        """B; without a condition that tells it, the last voxel is taken for one of the last object."""
        for told in (self.image, self.captions, self.cond_tokens):
            if told is not None and len(told):
                return len(told)
        return int(self.coords[-1, 0]) + 1


@dataclass(frozen=True)
class SparseViewBatch(Batch):
    """Sparse features or latents of single objects, and one picture of each to compare a decoder's with."""

    coords: Tensor  # (T, 4) int32 (object, x, y, z)
    feats: Tensor  # (T, C) picture features, or latents
    image: Tensor  # (B, 3, S, S) as rendered, premultiplied by alpha
    alpha: Tensor  # (B, S, S)
    extrinsics: Tensor  # (B, 4, 4) world to camera, OpenCV
    intrinsics: Tensor  # (B, 3, 3) normalised by the side of the picture
    vertices: tuple[Tensor, ...] = ()  # B of (V, 3): the true meshes
    faces: tuple[Tensor, ...] = ()  # B of (F, 3) int64
