"""Boxes around the objects of a photo: ``boxes.json`` holds a list of ``[x0, y0, x1, y1]``.

Numbers are pixels of the photo as it is seen (upright), from its left top corner; x0 < x1 <= width and
y0 < y1 <= height. The k-th box, from 0, becomes object k.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.limits import MAX_OBJECTS
from trellis_modules.config import ConfigError, load_json

_FORM = "[x0, y0, x1, y1] in pixels"


def read_boxes(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read and check a file of boxes.

    Args:
        path: JSON.
        size: width and height of the photo in pixels.

    Returns:
        (N, 4) float32, columns x0, y0, x1, y1; N >= 1.

    Raises:
        SceneInputError: no such file, not JSON, or something else than boxes inside the photo.
    """
    if not path.is_file():
        raise SceneInputError(f"{path}: expected a list of boxes {_FORM}, found no such file; check the path")
    try:
        raw = load_json(path)
    except ConfigError as error:
        raise SceneInputError(f"{error}; write a list of boxes {_FORM}") from error
    return check_boxes(raw, size, str(path))


def check_boxes(boxes: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """Boxes as an array, if they are boxes inside a photo.

    Args:
        boxes: list of lists, or array (N, 4), of numbers.
        size: width and height of the photo in pixels.
        where: begins the message.

    Returns:
        (N, 4) float32, columns x0, y0, x1, y1; N >= 1.

    Raises:
        SceneInputError: there is no box, too many, or one is malformed, empty or not inside the photo.
    """
    if isinstance(boxes, np.ndarray):
        boxes = boxes.tolist()
    if not isinstance(boxes, list):
        raise SceneInputError(
            f"{where}: expected a list of boxes {_FORM}, got {type(boxes).__name__}; "
            "put the boxes between [ and ]"
        )
    if not boxes:
        raise SceneInputError(f"{where}: expected at least one box {_FORM}, got none; draw one per object")
    if len(boxes) > MAX_OBJECTS:
        raise SceneInputError(
            f"{where}: expected at most {MAX_OBJECTS} boxes, got {len(boxes)}; split the scene"
        )
    for index, box in enumerate(boxes):
        _check_box(box, size, f"{where}: box {index}")
    return np.asarray(boxes, np.float32)


def _check_box(box: Any, size: tuple[int, int], where: str) -> None:
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        raise SceneInputError(f"{where}: expected four numbers {_FORM}, got {box!r}; correct the box")
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        raise SceneInputError(
            f"{where}: expected x0 < x1 and y0 < y1, got {box}; give the left top corner, then the right "
            "bottom one"
        )
    width, height = size
    if min(x0, y0) < 0 or x1 > width or y1 > height:
        raise SceneInputError(
            f"{where}: expected a box inside the photo, {width}x{height} pixels, got {box}; "
            "measure it in the photo at full size"
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
