"""Batch sources of the appearance stage: fields at surface voxels, pictures with the latents they show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from safe_files.limits import MAX_GRID
from scenegen.conditioning.scene_light import light_tones
from scenegen.datasets.latest import Latest
from scenegen.datasets.source import batch_number
from scenegen.geometry import pose_to_transform, zup_to_yup
from scenegen.synthesis.shapes.recolouring import Recolouring
from scenegen.synthesis.shapes.shape_bank import Triangles, Variants
from scenegen.synthesis.shapes.voxel_fields import FieldGrid, PaintedFields, VoxelFields, voxel_fields
from scenegen.synthesis.sources.batch import FieldBatch, LatentPictureBatch
from scenegen.synthesis.sources.scene_batches import PictureSource
from scenegen.synthesis.sources.scene_studio import Shot
from scenegen.synthesis.sources.shape_pool import ShapePool, SourceConfig, step_generator
from trellis_modules.config import check_range
from trellis_modules.ragged import expand

_FIELDS_AT_ONCE = 24


@dataclass(frozen=True)
class AppearanceSourceConfig(SourceConfig):
    """What batches of the appearance stage are made of."""

    subdivision: int = 2  # cells along the edge of a voxel, at whose corners fields are given
    anchors: int = 4  # of a voxel, see FieldGrid
    extra_voxels: float = 0.05  # see voxel_fields
    missing_voxels: float = 0.03
    variant_share: float = 0.0  # of the objects whose latents are of another variant than the picture

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("subdivision", self.subdivision, 1, MAX_GRID)
        check_range("anchors", self.anchors, 1, MAX_GRID)
        for name in ("extra_voxels", "missing_voxels", "variant_share"):
            check_range(name, getattr(self, name), 0, 1)


@dataclass(frozen=True)
class LatentPictureConfig(AppearanceSourceConfig):
    """What batches of pictures with structured latents are made of."""

    pretrained_slat_dec: str | None = None  # the decoder that shows what latents are; for snapshots only


def _fields(pool: ShapePool, triangles: Triangles, count: int, generator: torch.Generator) -> VoxelFields:
    config: AppearanceSourceConfig = pool.config
    grid = FieldGrid(config.resolution, config.subdivision, config.anchors, config.surface_samples)
    return voxel_fields(triangles, count, grid, generator, config.extra_voxels, config.missing_voxels)


class FieldSource:
    """Batches of painted fields, of random shapes in random colours."""

    def __init__(self, pool: ShapePool) -> None:
        """``pool``: shapes under an `AppearanceSourceConfig`."""
        self.pool = pool

    def batch(self, step: int, slot: int = 0, slots: int = 1) -> FieldBatch:
        """The shapes of a slot."""
        variants, rows, generator = self.pool.random(batch_number(step, slot, slots), "fields")
        triangles = Recolouring.draw(len(rows), generator).apply(variants.triangles(self.pool.bank, rows))
        fields = _fields(self.pool, triangles, len(rows), generator)
        return FieldBatch(fields.painted(triangles.colours), fields.normal)


@dataclass(frozen=True)
class _FieldPool:
    """Fields of all shapes of a pool, one shape after the other; a shape counts its triangles from 0."""

    first: Tensor  # (P,) int64
    length: Tensor  # (P,) int64
    xyz: Tensor  # (sum, 3) uint8 voxels
    distance: Tensor  # (sum, C) float16
    face: Tensor  # (sum, C) int32
    anchor_offset: Tensor  # (sum, G, 3) float16
    anchor_face: Tensor  # (sum, G) int32

    @classmethod
    def build(cls, pool: ShapePool, variants: Variants, generator: torch.Generator) -> _FieldPool:
        """Fields of all ``variants``."""
        parts = []
        for rows in torch.arange(len(variants.models), device=pool.device).split(_FIELDS_AT_ONCE):
            fields = _fields(pool, variants.triangles(pool.bank, rows), len(rows), generator)
            first_face = _first_faces(pool, variants, rows)[fields.coords[:, 0].long(), None]
            parts.append(
                (
                    torch.bincount(fields.coords[:, 0], minlength=len(rows)),
                    fields.coords[:, 1:].to(torch.uint8),
                    fields.distance.half(),
                    _shifted(fields.face, -first_face).int(),
                    fields.anchor_offset.half(),
                    _shifted(fields.anchor_face, -first_face).int(),
                )
            )
        length, *values = (torch.cat(part) for part in zip(*parts, strict=True))
        return cls(length.cumsum(0) - length, length, *values)

    def gather(self, pool: ShapePool, variants: Variants, rows: Tensor) -> VoxelFields:
        """Fields of the shapes ``rows`` (B,), whose triangles are those of ``variants.triangles``."""
        owner, running = expand(self.length[rows])
        place = self.first[rows][owner] + running
        first_face = _first_faces(pool, variants, rows)[owner, None]
        return VoxelFields(
            torch.cat([owner[:, None].int(), self.xyz[place].int()], 1),
            self.distance[place].float(),
            _shifted(self.face[place].long(), first_face),
            self.anchor_offset[place].float(),
            _shifted(self.anchor_face[place].long(), first_face),
        )


def _first_faces(pool: ShapePool, variants: Variants, rows: Tensor) -> Tensor:
    """Number of the first triangle of each of the shapes ``rows`` (B,), one after the other."""
    counts = pool.bank.face_count[variants.models[rows]]
    return counts.cumsum(0) - counts


def _shifted(faces: Tensor, by: Tensor) -> Tensor:
    """Numbers of triangles (T, N) plus ``by`` (T, 1); those below 0, which are none, stay."""
    return torch.where(faces >= 0, faces + by, faces)


class LatentPictureSource(PictureSource[LatentPictureBatch]):
    """Batches of objects in scenes, those alone that can be seen, with the latents that their picture shows.

    With ``variant_share`` the latents are not always of what the picture shows. Objects are painted anew for
    every picture: with colours that come again, a flow remembers them by the shape and does not look at the
    picture.
    """

    def __init__(self, pool: ShapePool, encode_fields: Callable[[PaintedFields], Tensor]) -> None:
        """Make a source.

        Args:
            pool: shapes under an `AppearanceSourceConfig`.
            encode_fields: painted fields at T voxels -> latents (T, C).
        """
        super().__init__(pool)
        self.encode_fields = encode_fields
        self._fields: Latest[_FieldPool] = Latest()

    @torch.no_grad()
    def _make(self, number: int) -> LatentPictureBatch:
        shot = self.studio.shoot(number, self.studio.generator(number))
        epoch, variants = self.pool.at(number)
        pool_fields = self._fields.get(epoch, lambda: self._draw_fields(epoch, variants))
        visible = shot.visible.flatten()
        shown = shot.shape.flatten()[visible]
        painting = shot.recolouring.of(shot.number.flatten()[visible])
        colours = painting.apply(variants.triangles(self.pool.bank, shown)).colours
        fields = pool_fields.gather(self.pool, variants, self._similar(shown, variants, number))
        return LatentPictureBatch(
            asset_image=shot.asset_images(self.config.image_size)[visible],
            coords=fields.coords,
            x_0=self.encode_fields(fields.painted(colours)),  # variants of a model have its triangles
            crop_projection=crop_projections(shot)[visible],
            light=light_tones(shot.developed, shot.masks[:, None])[visible],
        )

    def _draw_fields(self, epoch: int, variants: Variants) -> _FieldPool:
        generator = step_generator(self.pool.device, self.config, epoch, "pool fields")
        return _FieldPool.build(self.pool, variants, generator)

    def _similar(self, rows: Tensor, variants: Variants, number: int) -> Tensor:
        """Some of the shapes ``rows`` (B,) replaced by other variants of their models.

        Generated structures resemble the picture, but are not what it shows; the flow must bear that.
        """
        device = self.pool.device
        generator = step_generator(device, self.config, number, "similar shapes")
        draw = torch.rand(2, len(rows), generator=generator, device=device)
        alike = variants.models[rows, None] == variants.models
        alike &= variants.mirror[rows, None] == variants.mirror  # (B, P)
        rank = (draw[0] * alike.sum(1)).long() + 1
        other = (alike.cumsum(1) == rank[:, None]).int().argmax(1)
        return torch.where(draw[1] < self.config.variant_share, other, rows)


def crop_projections(shot: Shot) -> Tensor:
    """Matrices from places on objects to their crops.

    Returns:
        (S*N, 3, 4), in the shot's new order: a homogeneous point of the object's z-up frame -> (u w, v w, w),
        with the crop being [-1, 1] in u (right) and v (down) and w the depth in metres.
    """
    device = shot.view.focal.device
    to_yup = torch.eye(4, device=device)
    to_yup[:3, :3] = zup_to_yup(torch.eye(3, device=device)).T
    to_camera = shot.view.extrinsics[:, None] @ pose_to_transform(shot.world_poses) @ to_yup
    camera = torch.zeros(*to_camera.shape[:2], 3, 3, device=device)
    window = shot.crop_windows.unflatten(0, to_camera.shape[:2])
    camera[..., 0, 0] = camera[..., 1, 1] = shot.view.focal[:, None] / window[..., 2]
    camera[..., :2, 2] = (0.5 - window[..., :2]) / window[..., 2:]
    camera[..., 2, 2] = 1.0
    return (camera @ to_camera[..., :3, :]).flatten(0, 1)
