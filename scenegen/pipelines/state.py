"""What a run leaves behind, beside its result, so that objects of the scene can be made anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.settings import RunSettings


@dataclass(frozen=True)
class ObjectLatents:
    """What the networks sampled for one object, float32 on the CPU.

    Attributes:
        structure: (C, r, r, r), input of the structure decoder.
        coords: (V, 3) int32 voxels of the appearance latents, object z-up frame; None without that stage.
        feats: (V, C') the appearance latents, as the decoders read them; None likewise.
    """

    structure: Tensor
    coords: Tensor | None = None
    feats: Tensor | None = None


@dataclass(frozen=True)
class SceneState:
    """What a scene was made from. Its objects have their own part, `ObjectLatents`.

    Attributes:
        views: the photos with their objects.
        order: numbers of the objects as the networks saw them; the first is the network's query.
        settings: of the run.
        networks: digest of the networks that made the scene, see `CheckpointFolder.networks_digest`; empty
            for networks that came from no folder.
        seed: of the noise that was drawn last.
    """

    views: tuple[SceneImages, ...]
    order: tuple[int, ...]
    settings: RunSettings
    networks: str
    seed: int

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Numbers of the objects, in the caller's order."""
        return tuple(self.views[0].object_ids)

    def without(self, numbers: Sequence[int]) -> SceneState:
        """The same without some objects."""
        kept = [row for row, number in enumerate(self.object_ids) if number not in numbers]
        views = tuple(_some(view, kept) for view in self.views)
        return replace(self, views=views, order=tuple(n for n in self.order if n not in numbers))

    def with_masks(self, masks: dict[int, np.ndarray]) -> SceneState:
        """The same with other masks of the photo, (H, W) bool, for objects it has and for new ones.

        Only for one photo.
        """
        (view,) = self.views
        given = SceneImages.from_masks(view.photo, list(masks.values()), tuple(masks))
        cutouts = dict(zip(view.object_ids, view.cutouts, strict=True))
        cutouts |= dict(zip(given.object_ids, given.cutouts, strict=True))
        joined = dict(zip(view.object_ids, view.masks, strict=True))
        joined |= dict(zip(given.object_ids, given.masks, strict=True))
        view = SceneImages(view.photo, list(cutouts.values()), list(joined.values()), tuple(cutouts))
        added = tuple(number for number in masks if number not in self.order)
        return replace(self, views=(view,), order=(*self.order, *added))


def _some(view: SceneImages, rows: Sequence[int]) -> SceneImages:
    return SceneImages(
        view.photo,
        [view.cutouts[row] for row in rows],
        [view.masks[row] for row in rows],
        [view.object_ids[row] for row in rows],
    )
