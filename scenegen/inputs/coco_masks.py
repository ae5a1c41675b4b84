"""Masks as COCO annotations hold them: polygons, and run lengths as numbers or as compressed text.

Source: T.-Y. Lin et al., Microsoft COCO, arXiv:1405.0312, and the format of its published mask tools: runs
go down the columns, zeros first; compressed text has five bits and a continuation bit a character, counted
from "0", and from the fourth run on the difference to the run before the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

_FIRST_CHARACTER = 48
_BITS, _VALUE, _SIGN, _MORE = 5, 0x1F, 0x10, 0x20
_MAX_GROUPS = 8  # characters of one run: 40 bits are far beyond the pixels of any photo


class SegmentationError(ValueError):
    """A segmentation cannot be decoded; the message says what was expected and what came."""


def decode_segmentation(segmentation: Any, height: int, width: int) -> np.ndarray:
    """Turn the ``segmentation`` of an annotation into a mask.

    Args:
        segmentation: a list of polygons ``[x0, y0, x1, y1, ...]`` in pixels, whose union is the object, or
            ``{"size": [height, width], "counts": text, bytes or list of runs}``.
        height, width: size of the photo.

    Returns:
        (height, width) bool. A polygon covers the pixels of its outline too; parts outside the photo are cut
        off, so that the mask may be empty.

    Raises:
        SegmentationError: it has another form, other numbers than coordinates or runs, or another size.
    """
    if isinstance(segmentation, dict):
        return _decode_runs(segmentation, height, width)
    if isinstance(segmentation, (list, tuple)):
        return _fill_polygons(segmentation, height, width)
    raise SegmentationError(
        f"segmentation: expected polygons or run lengths, got {type(segmentation).__name__}"
    )


def encode_counts(mask: np.ndarray) -> list[int]:
    """Run lengths of a mask (H, W) bool, down its columns, zeros first."""
    flat = np.asarray(mask, bool).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *runs] if flat.size and flat[0] else runs


def compress_counts(counts: Sequence[int]) -> str:
    """Run lengths as the text of COCO's compressed form."""
    characters = []
    for index, run in enumerate(counts):
        value = run - counts[index - 2] if index > 2 else run
        more = True
        while more:
            bits = value & _VALUE
            value >>= _BITS
            more = value != (-1 if bits & _SIGN else 0)
            characters.append(chr(_FIRST_CHARACTER + (bits | _MORE if more else bits)))
    return "".join(characters)


def decompress_counts(text: str) -> list[int]:
    """Run lengths of COCO's compressed form.

    Raises:
        SegmentationError: a character does not belong to the form, or the text ends inside a number.
    """
    counts: list[int] = []
    value = groups = 0
    for character in text:
        bits = ord(character) - _FIRST_CHARACTER
        if not 0 <= bits < 2 * _MORE or groups == _MAX_GROUPS:
            raise SegmentationError(f"segmentation: {character!r} does not belong to compressed run lengths")
        value |= (bits & _VALUE) << (_BITS * groups)
        groups += 1
        if bits & _MORE:
            continue
        if bits & _SIGN:
            value -= 1 << (_BITS * groups)
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = groups = 0
    if groups:
        raise SegmentationError("segmentation: the compressed run lengths end inside a number")
    return counts


def _decode_runs(segmentation: dict[str, Any], height: int, width: int) -> np.ndarray:
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if size is not None and list(size) != [height, width]:
        raise SegmentationError(f"segmentation: expected a mask of {height} x {width} pixels, got {size}")
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", errors="replace")
    if isinstance(counts, str):
        counts = decompress_counts(counts)
    whole = isinstance(counts, list) and all(type(run) is int and run >= 0 for run in counts)
    if not whole or sum(counts) != height * width:
        got = f"runs over {sum(counts)} pixels" if whole else "other values"
        raise SegmentationError(
            f"segmentation: expected run lengths over the {height * width} pixels of the photo, got {got}"
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T.copy()


def _fill_polygons(polygons: Sequence[Any], height: int, width: int) -> np.ndarray:
    picture = Image.new("1", (width, height))
    draw = ImageDraw.Draw(picture)
    for polygon in polygons:
        corners = _corners(polygon)
        draw.polygon(corners, fill=1)
        draw.line([*corners, corners[0]], fill=1)  # Pillow's own outline leaves out parts of thin polygons
    return np.asarray(picture, dtype=bool).copy()


def _corners(polygon: Any) -> list[tuple[int, int]]:
    """Corners in whole pixels.

    Raises:
        SegmentationError: there are fewer than three, or a coordinate is no finite number.
    """
    if not isinstance(polygon, (list, tuple)) or len(polygon) < 6 or len(polygon) % 2:
        raise SegmentationError("segmentation: expected polygons [x0, y0, x1, y1, x2, y2, ...]")
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in polygon):
        raise SegmentationError("segmentation: expected finite coordinates in polygons")
    if max(map(abs, polygon)) > 1e6:
        raise SegmentationError("segmentation: expected coordinates within a million pixels of the photo")
    whole = [int(value) for value in polygon]  # truncated, as the published pipeline does for its filler
    return list(zip(whole[::2], whole[1::2]))
