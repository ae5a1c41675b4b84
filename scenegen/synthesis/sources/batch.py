"""Typed batches, one class for each kind of source.

S scenes hold N objects each; B = S * N objects follow each other scene by scene. Colours are in [0, 1]; poses
and frames are those of `scenegen.geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from scenegen.datasets.batch import Batch
from scenegen.synthesis.shapes.voxel_fields import PaintedFields

_SceneBatch = TypeVar("_SceneBatch", bound="SceneBatch")


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

    @property
    def scene_size(self) -> int:
        """N."""
        return self.visible.shape[1]

    def scene(self: _SceneBatch, number: int) -> _SceneBatch:
        """The batch of one of the scenes, 0 to S - 1; rows of all tensors belong to the scenes in turn."""
        return self.map(lambda value: value.unflatten(0, (len(self.visible), -1))[number])


@dataclass(frozen=True)
class SceneLatentBatch(SceneBatch):
    """Pictures of scenes with the latents of their objects."""

    x_0: Tensor  # (S, N, C, r, r, r)


@dataclass(frozen=True)
class ObjectLatentBatch(Batch):
    """Pictures of single objects, each alone in its photo, with the latents of their structures."""

    asset_image: Tensor  # (B, 3, I, I) crops on black
    mask_image: Tensor  # (B, 1, I, I) masks in the whole picture
    object_points: Tensor  # (B, 4, G, G), see `Shot.object_points`
    visible: Tensor  # (B,) bool; the others are not trained on
    x_0: Tensor  # (B, C, r, r, r)


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
    light: Tensor  # (B, L), see `scenegen.conditioning.scene_light.light_tones`
