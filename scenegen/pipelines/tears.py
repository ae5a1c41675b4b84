"""Tears in structures: small holes that one can look through, where the network is undecided.

A thin sheet at the limit of the grid comes out with pinholes and cracks. They differ from openings that an
object has: along a sight line through a tear the network gives some voxel a logit a little below 0, along one
through an opening it is sure that nothing is there.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from trellis_modules.representations.mesh.enclosed import near

UNDECIDED = 2.0
"""Free voxels with logits above minus this may be occupied."""

MAX_OPENING = 1 / 16
"""Holes count as small up to the area of a square with this share of the cube's edge."""

_VIEWS = 96
_PIXEL = 0.5  # edge, in voxels
_REACH = 2  # voxels: undecided ones count so near to occupied ones, and are closed so near to a sight line
_MARGIN = 2  # of pixels around what is drawn: one that it is made wider by, one that is free
_CLOSED = 0.5  # logit of voxels that close a tear


def without_tears(logits: np.ndarray) -> np.ndarray:
    """Close the holes of a structure that are small in a picture, where its network is undecided.

    In parallel projections from all sides, each pixel of a small hole gets the likeliest of the undecided
    voxels on its sight line, with its undecided neighbours.

    Args:
        logits: (R, R, R) occupancy logits, finite; a voxel is occupied where its logit is above 0.

    Returns:
        A copy in which nothing else is changed, and no occupied voxel.
    """
    occupied = logits > 0
    undecided = (logits > -UNDECIDED) & near(occupied, _REACH) & ~occupied
    if not undecided.any():
        return logits.copy()
    rim = np.argwhere(occupied & ~ndimage.binary_erosion(occupied))
    places = np.argwhere(undecided)
    places = places[np.argsort(logits[undecided], kind="stable")]
    closing = np.zeros(len(places), dtype=bool)
    size = int(np.sqrt(3) * len(logits) / _PIXEL) + 2 * _MARGIN  # pixels: the cube's diagonal
    largest = (MAX_OPENING * len(logits) / _PIXEL) ** 2
    likeliest = np.empty((size, size), dtype=np.intp)
    for axes in _picture_axes(_VIEWS):
        to_pixels = axes.T / _PIXEL
        corner = to_pixels.T @ np.full(3, (len(logits) - 1) / 2) - size / 2
        likeliest.fill(-1)
        # where several are at one pixel, the last stays
        likeliest[_at(places @ to_pixels - corner)] = np.arange(len(places))
        picture = np.zeros((size, size), dtype=bool)
        picture[_at(rim @ to_pixels - corner)] = True
        window = _around(picture)
        found = likeliest[window][_small_holes(picture[window], largest)]
        closing[found[found >= 0]] = True
    closed = np.zeros_like(occupied)
    closed[tuple(places[closing].T)] = True
    return np.where(near(closed, _REACH) & undecided, np.asarray(_CLOSED, logits.dtype), logits)


def _picture_axes(count: int) -> np.ndarray:
    """Right and down (count, 2, 3) of pictures along directions spread evenly over half a sphere.

    The other half would show the same from behind. The directions are those of a golden spiral.
    """
    steps = np.arange(count) + 0.5
    polar, azimuth = np.arccos(steps / count), np.pi * (1 + np.sqrt(5)) * steps
    zero = np.zeros(count)
    right = np.stack([-np.sin(azimuth), np.cos(azimuth), zero], axis=1)
    down = np.stack(
        [np.cos(polar) * np.cos(azimuth), np.cos(polar) * np.sin(azimuth), -np.sin(polar)], axis=1
    )
    return np.stack([right, down], axis=1)


def _at(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of places (N, 2) in a picture."""
    rows, columns = pixels.astype(np.intp).T
    return rows, columns


def _around(picture: np.ndarray) -> tuple[slice, slice]:
    """The part of a picture (H, W) bool with all that is drawn in it, and a margin."""
    rows, columns = (np.flatnonzero(picture.any(axis=axis)) for axis in (1, 0))
    return tuple(slice(max(places[0] - _MARGIN, 0), places[-1] + _MARGIN + 1) for places in (rows, columns))


def _small_holes(picture: np.ndarray, largest: float) -> np.ndarray:
    """Holes (H, W) bool of at most ``largest`` pixels in a picture of voxels, and their rims.

    Around the voxels there has to be a margin.
    """
    free, _ = ndimage.label(~near(picture[None])[0])  # three pixels a voxel, so that none are between
    is_hole = np.bincount(free.ravel()) <= largest
    is_hole[[0, free[0, 0]]] = False  # what is no hole: the object, and what is around it
    return near(is_hole[free][None])[0]
