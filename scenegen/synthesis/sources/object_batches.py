"""Source of pictures of single objects, some of them partly hidden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from scenegen.conditioning.patch_places import mask_boxes
from scenegen.synthesis.pictures.crops import shrink
from scenegen.synthesis.sources.batch import ObjectLatentBatch
from scenegen.synthesis.sources.scene_batches import PictureSource, PoolLatents
from scenegen.synthesis.sources.scene_studio import Shot, is_visible
from scenegen.synthesis.sources.shape_pool import ShapePool, SourceConfig, step_generator
from trellis_modules.config import check_range

_LEAST_SHOWN = 0.3  # of an object's pixels; what would hide more is left away
_FURTHEST = 1.2  # of half the object's box, by which the middle of what hides it may be off its own
_SAMPLED_AT_ONCE = 64
_SIZES = (0.3, 1.3)  # of what hides an object, beside the object


@dataclass(frozen=True)
class ObjectSourceConfig(SourceConfig):
    """What batches of single objects are made of.

    Attributes:
        hidden_share: of the objects, before which the silhouette of another is held.
    """

    object_counts: tuple[float, ...] = (1.0,)
    render_size: int = 320
    hidden_share: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("hidden_share", self.hidden_share, 0, 1)
        if len(self.object_counts) > 1 and any(self.object_counts[1:]):
            raise ValueError(f"object_counts: expected scenes of one object, got {list(self.object_counts)}")


class ObjectLatentSource(PictureSource[ObjectLatentBatch]):
    """Batches of objects that are alone in their pictures, with the latents of their structures."""

    def __init__(self, pool: ShapePool, encode: Callable[[Tensor], Tensor]) -> None:
        """Make a source.

        Args:
            pool: shapes under an `ObjectSourceConfig`.
            encode: see `PoolLatents`.
        """
        super().__init__(pool)
        self.latents = PoolLatents(pool, encode)

    def shoot(self, number: int) -> Shot:
        """The pictures of a batch."""
        generator = self.studio.generator(number)
        return hide_some(self.studio.shoot(number, generator), self.config.hidden_share, generator)

    def developed(self, shot: Shot, x_0: Tensor) -> ObjectLatentBatch:
        """The batch of pictures, with the latents of their objects."""
        size = self.config.image_size
        return ObjectLatentBatch(
            asset_image=shot.asset_images(size),
            mask_image=shrink(shot.masks[:, None].float(), size),
            object_points=shot.object_points(self.config.patch_grid),
            visible=shot.visible.flatten(),
            x_0=x_0,
        )

    @torch.no_grad()
    def with_structures(self, number: int) -> tuple[ObjectLatentBatch, Tensor]:
        """A batch, and the true structures (B, 1, R, R, R) bool of its objects, to compare others with.

        Its latents are those of these structures; the rest of the pool need not be encoded.
        """
        shot, (_, variants) = self.shoot(number), self.pool.at(number)
        generator = step_generator(self.pool.device, self.config, number, "true structures")
        parts = shot.shape.flatten().split(_SAMPLED_AT_ONCE)
        true = [self.pool.occupancy(variants, part, generator) for part in parts]
        latents = torch.cat([self.latents.encode(part.float()).float() for part in true])
        return self.developed(shot, latents), torch.cat(true)

    def _make(self, number: int) -> ObjectLatentBatch:
        shot = self.shoot(number)
        return self.developed(shot, self.latents.at(number)[shot.shape.flatten()])


def hide_some(shot: Shot, share: float, generator: torch.Generator) -> Shot:
    """Hold silhouettes of other objects before a share of the objects of pictures of one object each.

    What is hidden is missing in the mask, and so in all that is cut out with it.
    """
    if not share:
        return shot
    hidden = _occluders(shot.seen, share, generator)
    left = (shot.seen & ~hidden).flatten(1).sum(1)
    hidden &= (left >= _LEAST_SHOWN * shot.seen.flatten(1).sum(1))[:, None, None]
    seen = shot.seen & ~hidden
    visible = is_visible(seen.flatten(1).sum(1)).view_as(shot.visible)
    return replace(shot, seen=seen, masks=shot.masks & ~hidden, visible=visible)


def _occluders(masks: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Silhouettes (K, H, H) bool at random places before the objects of ``masks``, of others among them."""
    count, pixels = len(masks), masks.shape[-1]
    draw = torch.rand(5, count, 1, generator=generator, device=masks.device)
    low, high = (mask_boxes(masks) / pixels * 2 - 1).split(2, dim=-1)  # the picture being [-1, 1]
    middle, half = (low + high) / 2, ((high - low) / 2).clamp(min=1e-3)
    other = torch.arange(count, device=masks.device).roll(1)  # neighbours in a batch have nothing in common
    place = middle + half * _FURTHEST * (2 * torch.cat([draw[0], draw[1]], -1) - 1)
    smallest, largest = _SIZES
    reach = half.amax(1, keepdim=True) * (smallest + (largest - smallest) * draw[2])
    scale = half[other].amax(1, keepdim=True) / reach  # from the picture to that of the other object
    side = torch.where(draw[3] < 0.5, -1.0, 1.0) * scale
    scales = torch.cat([side, scale], -1)
    affine = torch.cat([torch.diag_embed(scales), (middle[other] - scales * place)[..., None]], -1)
    grid = F.affine_grid(affine, [count, 1, pixels, pixels], align_corners=False)
    found = F.grid_sample(masks[other, None].float(), grid, mode="nearest", align_corners=False)[:, 0] > 0.5
    return found & (draw[4] < share)[..., None]
