"""Areas of a noisy label image that its restored labels do not explain: too small to be steady, yet drawn.

Compression and smoothing leave no steady pixel in an area of some hundred pixels, so that what surrounds it
takes it. Its colour is then far from that of its label and, unlike that of an edge, no mixture of two labels
beside it. Measured on made cases: tests/unit/scenegen/inputs/test_small_areas.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

_EIGHT_NEIGHBOURS = np.ones((3, 3), bool)
_FAR = 40  # levels from its label's colour at which a pixel is not explained
_REACH = 6  # pixels around an area in which labels may have mixed to its colour
_MIXED = 40  # levels from the line between two colours within which a pixel is a mixture of them
_THIN = 2  # pixels from the middle of an area to its border, up to which noise makes some beside edges
_OTHER = 96  # levels between a thin area and all that is beside it, where it is none of them
_WIDEST_EDGE = 4  # pixels from the middle of an edge to its border
_CLEAR = 48  # levels between an area's colour and the one which it plainly is
_CLEARER = 1.5  # times as far as that is any other colour
_UNSEEN = 3  # times as far counts a colour of the palette that no steady area has: noise makes some
_FLAT = 0.6  # part of an area's pixels that have its colour, where it is an object of its own


@dataclass(frozen=True)
class UnexplainedArea:
    """An area whose colour is none of its label's, nor a mixture of those around it.

    Attributes:
        box: rows and columns of the image.
        inside: (h, w) bool in the box.
        colour: (C,) integers, the colour in its middle.
        flatness: part of its pixels that have this colour.
        radius: pixels from its middle to its border.
    """

    box: tuple[slice, slice]
    inside: np.ndarray
    colour: np.ndarray
    flatness: float
    radius: int

    @property
    def pixels(self) -> int:
        """How many it has."""
        return int(self.inside.sum())


def unexplained_areas(
    image: np.ndarray, indices: np.ndarray, colours: np.ndarray, min_area: int
) -> list[UnexplainedArea]:
    """Find areas that were drawn in another colour than that of their label.

    Args:
        image: (H, W, C) integers.
        indices: (H, W) colour of each pixel, as restored.
        colours: (K, C) integers.
        min_area: pixels that an area has at least.
    """
    difference = np.abs(image.astype(np.int32) - colours[indices]).max(axis=-1)
    far = difference > _FAR
    middles, _ = ndimage.label(ndimage.binary_erosion(far, _EIGHT_NEIGHBOURS), _EIGHT_NEIGHBOURS)
    found = []
    for number, box in enumerate(ndimage.find_objects(middles), start=1):
        around = tuple(slice(max(0, side.start - _REACH), side.stop + _REACH) for side in box)
        middle = middles[around] == number
        beside = colours[np.unique(indices[around])]
        if _is_edge(image[around][middle], beside, middle):
            continue
        area = _area(image[around], colours[indices[around]], middle, difference[around])
        unlike = np.abs(beside - area.colour).max(axis=1).min()
        if area.pixels >= min_area and (area.radius > _THIN or unlike > _OTHER):
            found.append(replace(area, box=around))
    return found


def own_colour(area: UnexplainedArea, colours: np.ndarray, palette: np.ndarray | None) -> np.ndarray | None:
    """The colour that an area was plainly drawn in; None where it cannot be told.

    Args:
        area: the area.
        colours: (K, C) of the areas that were restored.
        palette: (P, C) colours that the image was drawn in, where they are known.
    """
    known = colours if palette is None else np.concatenate([colours, palette])
    is_seen = np.arange(len(known)) < len(colours)
    if area.radius <= _THIN:  # too thin to bring a colour of its own
        known, is_seen = colours, is_seen[: len(colours)]
    cost = np.abs(known - area.colour).max(axis=1) * np.where(is_seen, 1, _UNSEEN)
    order = np.argsort(cost, kind="stable")
    best = known[order[0]]
    others = cost[(known != best).any(axis=1)]
    if cost[order[0]] <= _CLEAR and (not len(others) or others.min() >= _CLEARER * cost[order[0]]):
        return best
    is_new = palette is None and area.radius > _THIN and area.flatness >= _FLAT and cost[order[0]] > _CLEAR
    return area.colour if is_new else None


def _is_edge(pixels: np.ndarray, beside: np.ndarray, middle: np.ndarray) -> bool:
    """Whether pixels (N, C) of a narrow area are mixtures of two colours (K, C) beside it."""
    if _radius(middle) + 1 > _WIDEST_EDGE:
        return False
    mixed = np.zeros(len(pixels), bool)
    for first in range(len(beside)):
        for second in range(first):
            mixed |= _distance_to_line(pixels, beside[first], beside[second]) <= _MIXED
    return bool(mixed.mean() > 0.5)


def _distance_to_line(pixels: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Largest difference of a channel between pixels (N, C) and the nearest mixtures of two colours."""
    along = (end - start).astype(np.float64)
    share = ((pixels - start) @ along / max(along @ along, 1.0)).clip(0, 1)
    return np.abs(pixels - start - share[:, None] * along).max(axis=1)


def _area(
    image: np.ndarray, explained: np.ndarray, middle: np.ndarray, difference: np.ndarray
) -> UnexplainedArea:
    """All of an area: what touches its middle and is nearer to the middle's colour than to its label's."""
    least = np.quantile(difference[middle], 0.75)
    colour = np.median(image[middle & (difference >= least)], axis=0).round().astype(np.int64)
    own = np.abs(image.astype(np.int32) - colour).max(axis=-1)
    inside = ndimage.binary_propagation(
        middle, _EIGHT_NEIGHBOURS, middle | (own < np.abs(image.astype(np.int32) - explained).max(axis=-1))
    )
    whole = (slice(None), slice(None))
    return UnexplainedArea(whole, inside, colour, float((own[inside] <= _FAR).mean()), _radius(inside))


def _radius(mask: np.ndarray) -> int:
    """Pixels from the middle of a mask (h, w) to its border."""
    return int(ndimage.distance_transform_cdt(np.pad(mask, 1), "chessboard").max())
