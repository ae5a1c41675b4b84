"""Boxes around the objects of a photo: ``boxes.json`` holds a list of ``[x0, y0, x1, y1]``.

`scenegen.segmentation.prompts` reads that file; points may stand in it beside boxes, or in their place.

Numbers are pixels of the photo as it is seen (upright), from its left top corner; x0 < x1 <= width and
y0 < y1 <= height. The k-th box, from 0, becomes object k.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.limits import MAX_OBJECTS
from trellis_modules.config import ConfigError, load_json

_FORM = "[x0, y0, x1, y1] in pixels"


def load_boxes(path: Path) -> Any:
    """What a file of boxes holds, not checked yet.

    Raises:
        SceneInputError: no such file, or not JSON.
    """
    if not path.is_file():
        raise SceneInputError(f"{path}: expected a list of boxes {_FORM}, found no such file; check the path")
    try:
        return load_json(path)
    except ConfigError as error:
        raise SceneInputError(f"{error}; write a list of boxes {_FORM}") from error


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
    check_count(boxes, where)
    for index, box in enumerate(boxes):
        check_box(box, size, f"{where}: box {index}")
    return np.asarray(boxes, np.float32)


def check_count(boxes: Any, where: str) -> None:
    """Make sure that this is a list with a number of boxes that a scene can have.

    Args:
        boxes: of a file or a caller, not checked yet.
        where: begins the message.

    Raises:
        SceneInputError: it is no list, empty or too long.
    """
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


def check_box(box: Any, size: tuple[int, int], where: str) -> None:
    """Make sure that this is a box inside a photo.

    Args:
        box: of a file or a caller, not checked yet.
        size: width and height of the photo in pixels.
        where: begins the message.

    Raises:
        SceneInputError: it is malformed, empty or not inside the photo.
    """
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(value) for value in box):
        raise SceneInputError(f"{where}: expected four numbers {_FORM}, got {box!r}; correct the box")
    x0, y0, x1, y1 = box
    if x0 >= x1 or y0 >= y1:
        raise SceneInputError(
            f"{where}: expected x0 < x1 and y0 < y1, got {box}; give the left top corner, then the right "
            "bottom one"
        )
    check_pixels(box, size, where)
    width, height = size
    if min(x0, y0) < 0 or x1 > width or y1 > height:
        raise SceneInputError(
            f"{where}: expected a box inside the photo, {width}x{height} pixels, got {box}; "
            "measure it in the photo at full size"
        )


def check_pixels(numbers: Sequence[float], size: tuple[int, int], where: str) -> None:
    """Refuse shares of the picture's sides in place of pixels; no object is smaller than one pixel.

    Args:
        numbers: coordinates of a box or a point.
        size: width and height of the photo in pixels.
        where: begins the message.

    Raises:
        SceneInputError: all are from 0 to 1, and not all of them whole.
    """
    if all(0 <= value <= 1 for value in numbers) and any(value != int(value) for value in numbers):
        raise SceneInputError(
            f"{where}: expected pixels, got shares of the picture from 0 to 1 ({list(numbers)}); multiply "
            f"them by its width and height, {size[0]} and {size[1]}"
        )


def is_number(value: Any) -> bool:
    """Whether a value of a file is a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # an integer may be larger; NaN is not smaller
