"""How well objects, seen by a photo's camera, cover their masks: two figures, and what each can tell.

The modal overlap is that of what is seen: rays are cast at all meshes, nearer objects hide farther ones as
they do in the photo, and the pixels whose nearest surface is an object are compared with the object's mask.
True meshes under true cameras reach 0.97 on renders.

The overlap of objects alone projects some points of each object, joins them to a coarse silhouette, and knows
neither what is hidden nor what is cut. It is kept as a quick sign of whether a camera explains the masks at
all; true boxes score as high as generated shapes in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scenegen.photo.camera import PhotoCamera, mask_cells
from scenegen.photo.silhouettes import Surface, at_pixels, visible_objects

MODAL_WIDTH = 192
"""Pixels across the photo at which modal overlaps are measured."""

_POINTS = 1500  # of an object, for the overlap of objects alone


class MaskOverlap(NamedTuple):
    """Intersection over union, in [0, 1], of one object's silhouette and its mask.

    Attributes:
        modal: of what is seen of it, nearer objects in front; None where no pixel at the measuring size has
            its centre in the mask.
        alone: of points of the object alone on a coarse grid.
    """

    modal: float | None
    alone: float


class Sight:
    """The masks of a photo at the size of the pictures that are compared with them, and the objects."""

    def __init__(self, surfaces: Sequence[Surface], masks: Sequence[np.ndarray], width: int = MODAL_WIDTH):
        """Prepare objects and masks.

        Args:
            surfaces: N >= 1 objects in the query frame.
            masks: N masks (H, W) bool of one size.
            width: of the pictures in pixels.
        """
        self._surfaces, self._width = surfaces, width
        self._masks = np.stack([at_pixels(mask, width) for mask in masks])

    def overlaps(self, views: Sequence[PhotoCamera]) -> np.ndarray:
        """Modal overlaps (V, N) under V cameras; 0 for a mask without a pixel."""
        seen = visible_objects(self._surfaces, views, self._width)
        own = seen[:, None] == np.arange(len(self._masks))[:, None, None]  # (V, N, H, W)
        both, either = (own & self._masks).sum(axis=(2, 3)), (own | self._masks).sum(axis=(2, 3))
        return both / np.maximum(either, 1)

    def has_pixels(self) -> np.ndarray:
        """(N,) bool, whether a mask has any pixel at this size."""
        return self._masks.any(axis=(1, 2))


def mask_overlaps(
    view: PhotoCamera, surfaces: Sequence[Surface], masks: Sequence[np.ndarray]
) -> list[MaskOverlap]:
    """Both overlaps of each of N >= 1 objects; the arguments are those of `Sight`."""
    sight = Sight(surfaces, masks)
    modal = [
        float(value) if has_pixels else None
        for value, has_pixels in zip(sight.overlaps([view])[0], sight.has_pixels(), strict=True)
    ]
    return [MaskOverlap(*pair) for pair in zip(modal, overlaps_alone(view, surfaces, masks), strict=True)]


def overlaps_alone(
    view: PhotoCamera, surfaces: Sequence[Surface], masks: Sequence[np.ndarray]
) -> list[float]:
    """Overlaps of objects alone; the arguments are those of `Sight`."""
    overlaps = []
    for surface, mask in zip(surfaces, masks, strict=True):
        rng = np.random.default_rng(0)
        cloud = surface.vertices
        if len(cloud) > _POINTS:
            cloud = cloud[rng.choice(len(cloud), _POINTS, replace=False)]
        cells = mask_cells(mask)
        shown = view.silhouette(cloud, cells.shape)
        overlaps.append(float((shown & cells).sum() / max((shown | cells).sum(), 1)))
    return overlaps
