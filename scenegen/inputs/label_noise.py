"""The labels of an image as they were drawn, before it was smoothed, resized or compressed.

Colours that were drawn fill areas; colours that smoothing or JPEG made stand in narrow bands between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from scenegen.inputs.label_areas import own_colour, unexplained_areas

_EIGHT_NEIGHBOURS = np.ones((3, 3), bool)
_STEADY = 12  # levels within 3 x 3 pixels that are no edge; compression ripples by less inside an area
_SAME = 40  # levels by which a pixel may differ from the colour that it was drawn in
_DRIFT = 12  # levels by which compression moves the colour of an area that was drawn
_BESIDE = 3  # pixels from an area's steady ones on which an edge may still have its label
_OF_PALETTE = 0.9  # part of the steady pixels that a palette must explain to be the one used
_EXPLAINED = 0.6  # part of the pixels that look like their label in an image of labels; photos have less
_SHADE = 48  # levels between a colour and what compression makes of it at the edges
_SHADE_SHARE = 0.01  # of the pixels of another colour so close: fewer than this are its shades
_SPECKS = 3  # as many of them are dropped without taking the image for a noisy one
_TABLE = 1 << 24  # numbers below it, among them all colours, are counted in a table
_FEWEST_STEADY = 4  # pixels of an area that was drawn


@dataclass(frozen=True)
class Colours:
    """An image in few colours.

    Attributes:
        colours: (K, C) integers, the background's among them.
        indices: (H, W) integers: the colour of each pixel.
        lost: pixels of each area that was drawn in a colour which cannot be told; what is around took it.
    """

    colours: np.ndarray
    indices: np.ndarray
    lost: tuple[int, ...] = ()


def is_crisp(numbers: np.ndarray, max_objects: int, known: int, min_area: int) -> bool:
    """Whether an image holds the values that were drawn, and no others.

    Args:
        numbers: (H, W) integers, 0 on the background.
        max_objects: more values are too many.
        known: values below it cannot be made by smoothing, as they would have to be hit exactly.
        min_area: pixels of a speck.

    Returns:
        True where all values are below ``known``, or where they are few, and all but a few specks have the
        value of an area that was drawn.
    """
    values = np.unique(numbers)
    if values.max() < known:
        return True
    inside = (ndimage.minimum_filter(numbers, 3) == numbers) & (ndimage.maximum_filter(numbers, 3) == numbers)
    drawn = np.unique(numbers[inside])
    return len(drawn) <= max_objects + 1 and int((~np.isin(numbers, drawn)).sum()) <= _SPECKS * min_area


def component_sizes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Connected areas of equal labels, corners touching included.

    Args:
        labels: (H, W) integers of at least 0, and few of them.

    Returns:
        (H, W) number of each pixel's area, (K,) label of each area, (K,) its pixels.
    """
    areas = np.zeros(labels.shape, np.int32)
    values, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape).astype(np.int32) + 1
    owners: list[int] = []
    for index, box in enumerate(ndimage.find_objects(compact)):
        found, count = ndimage.label(compact[box] == index + 1, _EIGHT_NEIGHBOURS)
        inside = found > 0
        areas[box][inside] = found[inside] - 1 + len(owners)
        owners += [int(values[index])] * count
    return areas, np.array(owners), np.bincount(areas.ravel(), minlength=len(owners))


def restore_labels(image: np.ndarray, palette: np.ndarray | None, min_area: int) -> Colours | None:
    """Find the colours that an image was drawn in, and give each pixel one of them.

    Args:
        image: (H, W, C) integers: one channel, or three of 8 bits.
        palette: (K, C) colours that it is likely drawn in; None where there are none.
        min_area: pixels below which an area is not taken for one that was drawn.

    Returns:
        None where no few colours explain the image.
    """
    steady = np.ones(image.shape[:2], bool)
    for channel in np.moveaxis(image, -1, 0):
        steady &= ndimage.maximum_filter(channel, 3) - ndimage.minimum_filter(channel, 3) <= _STEADY
    if not steady.any():
        return None
    fewest = max(_FEWEST_STEADY, min_area // 8)
    colours = _drawn_colours(image[steady], palette, fewest)
    if colours is None:
        return None
    values, inverse, _ = _distinct(image)
    nearest, distance = (found.astype(np.int32)[inverse] for found in _nearest(values, colours))
    seeds = _anchored(np.where(distance <= _SAME, nearest, -1), steady, fewest)
    seeds = np.where((distance <= _DRIFT) | _is_beside(seeds, steady), seeds, -1)
    if (seeds >= 0).mean() < _EXPLAINED:
        return None
    return _with_small_areas(image, Colours(colours, fill(seeds, seeds < 0)), palette, min_area)


def fill(labels: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Labels (H, W) in which each pixel of the gaps (H, W) bool has that of the nearest pixel outside."""
    if not gaps.any():
        return labels
    rows, columns = ndimage.distance_transform_edt(gaps, return_distances=False, return_indices=True)
    return labels[rows, columns]


def _with_small_areas(
    image: np.ndarray, found: Colours, palette: np.ndarray | None, min_area: int
) -> Colours:
    """Give areas that are too small to be steady the colours that they were plainly drawn in."""
    colours, indices, lost = found.colours, found.indices.copy(), []
    if palette is not None and not (palette[:, None] == colours).all(axis=-1).any(axis=0).all():
        palette = None  # it is not the one that the image was drawn in
    for area in unexplained_areas(image, found.indices, colours, min_area):
        colour = own_colour(area, colours, palette)
        if colour is None:
            lost.append(area.pixels)
            continue
        same = np.flatnonzero((colours == colour).all(axis=1))
        if not len(same):
            colours = np.concatenate([colours, colour[None]])
        indices[area.box][area.inside] = same[0] if len(same) else len(colours) - 1
    return Colours(colours, indices, tuple(lost))


def _drawn_colours(pixels: np.ndarray, palette: np.ndarray | None, fewest: int) -> np.ndarray | None:
    """The colours (K, C) of steady pixels (N, C): of the palette where they fit it, else the commonest."""
    values, _, counts = _distinct(pixels)
    if palette is not None:
        nearest, distance = _nearest(values, palette)
        near = distance <= _DRIFT
        if counts[near].sum() > _OF_PALETTE * counts.sum():
            return _without_shades(palette, np.bincount(nearest[near], counts[near], len(palette)), fewest)
    left, peaks, sizes = counts.copy(), [], []
    while left.max() >= _FEWEST_STEADY:
        peak = values[left.argmax()]
        absorbed = np.abs(values - peak).max(axis=1) <= _DRIFT
        peaks.append(peak if peak.max() > _DRIFT else np.zeros_like(peak))  # what is almost black is black
        sizes.append(left[absorbed].sum())
        left[absorbed] = 0
    return _without_shades(np.array(peaks), np.array(sizes), fewest) if peaks else None


def _without_shades(colours: np.ndarray, counts: np.ndarray, fewest: int) -> np.ndarray | None:
    """The colours (K, C) that fill areas, without rare ones that compression made of another."""
    found: list[int] = []
    for index in np.argsort(-counts, kind="stable"):
        if counts[index] < fewest:
            break
        near = [each for each in found if np.abs(colours[each] - colours[index]).max() <= _SHADE]
        if all(counts[index] >= max(_SHADE_SHARE * counts[each], 10 * fewest) for each in near):
            found.append(int(index))
    return colours[found] if found else None


def _distinct(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct values (N, C) of pixels (..., C), the value of each pixel, and how many pixels have each."""
    channels = pixels.shape[-1]
    codes = pixels[..., 0].astype(np.int32)
    for channel in range(1, channels):
        codes = codes * 256 + pixels[..., channel]
    if codes.max() < _TABLE:  # a table takes a fraction of the time and the memory of sorting
        counts = np.bincount(codes.ravel())
        found = np.flatnonzero(counts)
        table = np.zeros(len(counts), np.int32)
        table[found] = np.arange(len(found))
        inverse, counts = table[codes], counts[found]
    else:
        found, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
        inverse = inverse.reshape(codes.shape)
    values = np.stack([found // 256**place % 256 for place in reversed(range(channels))], axis=-1)
    return (values if channels > 1 else found[:, None]).astype(np.int64), inverse, counts


def _nearest(values: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the nearest colour of each value (N, C), and the largest difference of a channel to it."""
    _, index = KDTree(colours).query(values)
    return index, np.abs(values - colours[index]).max(axis=1)


def _anchored(indices: np.ndarray, steady: np.ndarray, fewest: int) -> np.ndarray:
    """Indices without the areas that hold too few steady pixels: bands that smoothing made; there -1."""
    areas, owners, _ = component_sizes(indices + 1)
    counts = np.bincount(areas.ravel(), weights=steady.ravel(), minlength=len(owners))
    return np.where((counts >= fewest)[areas], indices, -1)


def _is_beside(seeds: np.ndarray, steady: np.ndarray) -> np.ndarray:
    """Whether a steady pixel of the same label is near: (H, W) bool."""
    anchors = steady & (seeds >= 0)
    if not anchors.any():
        return anchors
    distance, (rows, columns) = ndimage.distance_transform_edt(~anchors, return_indices=True)
    return (distance <= _BESIDE) & (seeds[rows, columns] == seeds)
