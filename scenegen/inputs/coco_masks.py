"""Masks of a COCO file: polygons, and run lengths as lists or as COCO's compressed text.

Source: the COCO data format (https://cocodataset.org/#format-data) and the run lengths of its maskApi.c.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.photos import ScenePhoto

_FINER = 4  # polygons have corners between pixels: they are drawn so many times larger
_LARGEST_FINE = 1 << 24  # pixels up to which they are


def annotations_of(raw: Any, where: Path | str) -> list[Mapping[str, Any]]:
    """The annotations of the one photo in a COCO file.

    Args:
        raw: ``{"images": [...], "annotations": [...]}``, ``{"image": {...}, "annotations": [...]}`` or the
            bare list that SAM's automatic mask generator makes.
        where: begins messages.

    Raises:
        SceneInputError: something else, no annotation, or annotations of several photos.
    """
    annotations = raw.get("annotations") if isinstance(raw, Mapping) else raw
    if not isinstance(annotations, list) or not all(
        isinstance(each, Mapping) and each.get("segmentation") for each in annotations
    ):
        raise SceneInputError(
            f'{where}: expected COCO annotations, a list of {{"segmentation": ...}}, got something else; '
            "export the masks as COCO JSON, not boxes or key points alone"
        )
    if not annotations:
        raise SceneInputError(f"{where}: expected at least one annotation, got none; mark the objects")
    photos = {str(each.get("image_id")) for each in annotations}
    if len(photos) > 1:
        raise SceneInputError(
            f"{where}: expected annotations of one photo, got those of {len(photos)}; export one file a photo"
        )
    return annotations


def mask_of(annotation: Mapping[str, Any], photo: ScenePhoto, where: str) -> np.ndarray:
    """The mask (H, W) bool of an annotation on the upright photo.

    Raises:
        SceneInputError: it is no polygon and no run lengths, or belongs to a picture of another size.
    """
    shape = annotation["segmentation"]
    if isinstance(shape, list):
        return _from_polygons(shape, photo.shape, where)
    if not isinstance(shape, Mapping):
        raise _unknown(where, shape)
    height, width = _size(shape, where)
    mask = np.zeros(height * width, bool)
    ends = np.cumsum(_counts(shape.get("counts"), height * width, where))
    for start, end in zip(ends[::2], ends[1::2]):
        mask[start:end] = True
    picture = Image.fromarray(np.ascontiguousarray(mask.reshape(width, height).T))
    return np.asarray(photo.lay_on(Path(where), picture, "a mask"))


def _size(shape: Mapping[str, Any], where: str) -> tuple[int, int]:
    size = shape.get("size")
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(isinstance(side, int) and 0 < side < 1 << 16 for side in size)
        or size[0] * size[1] > 1 << 28
    ):
        raise SceneInputError(f"{where}: expected the size [height, width] of its photo, got {size!r:.60}")
    return size[0], size[1]


def _counts(counts: Any, pixels: int, where: str) -> list[int]:
    """Run lengths, of background and object in turn; they fill the picture column by column."""
    if isinstance(counts, str):
        counts = _decoded(counts, where)
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        raise _unknown(where, counts)
    if sum(counts) != pixels:
        raise SceneInputError(
            f"{where}: expected run lengths of {pixels} pixels in all, got {sum(counts)}; export it again"
        )
    return counts


def _decoded(text: str, where: str) -> list[int]:
    """COCO's compressed run lengths: five bits a character, and differences from the fourth run on."""
    runs: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            code = ord(text[position]) - 48 if position < len(text) else -1
            if not 0 <= code < 64 or shift > 60:
                raise SceneInputError(f"{where}: expected COCO's compressed run lengths, got a damaged text")
            value |= (code & 31) << shift
            more, shift, position = bool(code & 32), shift + 5, position + 1
            if not more and code & 16:
                value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _from_polygons(polygons: Sequence[Any], shape: tuple[int, int], where: str) -> np.ndarray:
    """The area inside polygons ``[x0, y0, x1, y1, ...]`` in pixels of the photo."""
    height, width = shape
    finer = _FINER if height * width * _FINER**2 <= _LARGEST_FINE else 1
    canvas = Image.new("L", (width * finer, height * finer))
    for polygon in [polygons] if polygons and not isinstance(polygons[0], list) else polygons:
        if (
            not isinstance(polygon, list)
            or len(polygon) < 6
            or len(polygon) % 2
            or not all(_is_coordinate(value) for value in polygon)
        ):
            raise _unknown(where, polygon)
        if max(polygon[::2]) > width + 1 or max(polygon[1::2]) > height + 1:
            raise SceneInputError(
                f"{where}: expected a polygon inside the photo, {width}x{height}, got one up to "
                f"{max(polygon[::2]):g}, {max(polygon[1::2]):g}; export it for the photo at full size"
            )
        corners = [(x * finer, y * finer) for x, y in zip(polygon[::2], polygon[1::2])]
        ImageDraw.Draw(canvas).polygon(corners, fill=255)
    return np.asarray(canvas.resize((width, height), Image.Resampling.BOX)) > 127


def _is_coordinate(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and -1e6 < value < 1e6


def _unknown(where: str, got: Any) -> SceneInputError:
    return SceneInputError(
        f"{where}: expected polygons [[x0, y0, x1, y1, x2, y2, ...], ...] or run lengths "
        f'{{"size": ..., "counts": ...}}, got {got!r:.60}; export it again as COCO JSON'
    )
