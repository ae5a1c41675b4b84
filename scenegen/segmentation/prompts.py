"""What a person says about one object of a photo: a box around it, points on it, points beside it.

A file of prompts is ``boxes.json`` with a list of ``[x0, y0, x1, y1]``, or of objects such as
``{"box": [x0, y0, x1, y1], "positive": [[x, y]], "negative": [[x, y]], "name": "chair"}``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scenegen.inputs.boxes import check_box, check_count, check_pixels, is_number, load_boxes
from scenegen.inputs.image_files import SceneInputError

Point = tuple[float, float]

_KEYS = ("box", "positive", "negative", "name")
_POINTS_FORM = "points [[x, y], ...] in pixels"


@dataclass(frozen=True)
class ObjectPrompt:
    """Where one object is; numbers are pixels of the photo from its left top corner.

    Attributes:
        box: left, top, right, bottom around the object; None where points alone show it.
        positive: points (x, y) on the object.
        negative: points (x, y) that are not on the object.
        name: what the object is called; may be empty.
    """

    box: tuple[float, float, float, float] | None = None
    positive: tuple[Point, ...] = ()
    negative: tuple[Point, ...] = ()
    name: str = ""

    def clipped(self, width: int, height: int) -> ObjectPrompt:
        """The prompt inside a picture: corners in order, the box cut off at the picture's border.

        Args:
            width, height: of the picture in pixels.

        Raises:
            SceneInputError: there is neither a box nor a positive point, a number is not finite, the box has
                no area inside the picture, or a point lies outside of it.
        """
        if self.box is None and not self.positive:
            raise SceneInputError(
                f"{self._title}: expected a box or a point on the object, got neither; draw a box around it"
            )
        numbers = [*(self.box or ()), *(value for point in self._points for value in point)]
        if not all(map(math.isfinite, numbers)):
            raise SceneInputError(
                f"{self._title}: expected finite numbers of pixels, got {self}; draw it again"
            )
        for x, y in self._points:
            if not (0 <= x <= width and 0 <= y <= height):
                raise SceneInputError(
                    f"{self._title}: expected points inside the photo, {width}x{height} pixels, got "
                    f"({x:g}, {y:g}); move the point"
                )
        return self if self.box is None else replace(self, box=self._clipped_box(self.box, width, height))

    def scaled(self, x_factor: float, y_factor: float) -> ObjectPrompt:
        """The prompt in a picture whose pixels were scaled."""
        box = self.box
        return replace(
            self,
            box=None
            if box is None
            else (box[0] * x_factor, box[1] * y_factor, box[2] * x_factor, box[3] * y_factor),
            positive=tuple((x * x_factor, y * y_factor) for x, y in self.positive),
            negative=tuple((x * x_factor, y * y_factor) for x, y in self.negative),
        )

    def _clipped_box(
        self, box: tuple[float, float, float, float], width: int, height: int
    ) -> tuple[float, float, float, float]:
        xs, ys = sorted((box[0], box[2])), sorted((box[1], box[3]))
        text = f"[{', '.join(f'{value:g}' for value in box)}]"
        if xs[0] == xs[1] or ys[0] == ys[1]:
            raise SceneInputError(
                f"{self._title}: expected a box with an area, got {text}; drag it around the object"
            )
        x0, x1 = (min(max(x, 0.0), float(width)) for x in xs)
        y0, y1 = (min(max(y, 0.0), float(height)) for y in ys)
        if x0 == x1 or y0 == y1:
            raise SceneInputError(
                f"{self._title}: expected a box inside the photo, {width}x{height} pixels, got {text}, which "
                "lies outside; draw it on the photo"
            )
        return x0, y0, x1, y1

    @property
    def _points(self) -> tuple[Point, ...]:
        return self.positive + self.negative

    @property
    def _title(self) -> str:
        return f"object {self.name!r}" if self.name else "object"


def prompts_of_boxes(boxes: Iterable[Sequence[float]]) -> list[ObjectPrompt]:
    """One prompt for each box ``[x0, y0, x1, y1]``, also a row of an array (N, 4)."""
    return [ObjectPrompt(box=tuple(map(float, box))) for box in boxes]


def read_prompts(path: Path, size: tuple[int, int]) -> list[ObjectPrompt]:
    """Read and check a file of boxes and points.

    Args:
        path: JSON, see the head of this file.
        size: width and height of the photo in pixels.

    Returns:
        N >= 1 prompts inside the photo.

    Raises:
        SceneInputError: no such file, not JSON, or something else than boxes and points inside the photo.
    """
    raw = load_boxes(path)
    check_count(raw, str(path))
    return [parse_prompt(item, size, f"{path}: box {index}") for index, item in enumerate(raw)]


def parse_prompt(raw: Any, size: tuple[int, int], where: str) -> ObjectPrompt:
    """A prompt from JSON, see the head of this file.

    Args:
        raw: of a file or a caller, not checked yet.
        size: width and height of the photo in pixels.
        where: begins messages.

    Raises:
        SceneInputError: it is something else, or not inside the photo.
    """
    if not isinstance(raw, dict):
        check_box(raw, size, where)
        return ObjectPrompt(box=tuple(map(float, raw)))
    if unknown := sorted(raw.keys() - set(_KEYS)):
        raise SceneInputError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(_KEYS)}")
    if (box := raw.get("box")) is not None:
        check_box(box, size, where)
    if not isinstance(name := raw.get("name", ""), str):
        raise SceneInputError(f"{where}: expected a text as its name, got {name!r}; correct it")
    prompt = ObjectPrompt(
        None if box is None else tuple(map(float, box)),
        _read_points(raw.get("positive", []), size, f"{where}: positive"),
        _read_points(raw.get("negative", []), size, f"{where}: negative"),
        name,
    )
    try:
        return prompt.clipped(*size)
    except SceneInputError as error:
        raise SceneInputError(f"{where}: {error}") from error


def _read_points(raw: Any, size: tuple[int, int], where: str) -> tuple[Point, ...]:
    is_list = isinstance(raw, list)
    if not is_list or not all(
        isinstance(point, list) and len(point) == 2 and all(map(is_number, point)) for point in raw
    ):
        raise SceneInputError(f"{where}: expected {_POINTS_FORM}, got {raw!r}; correct them")
    for point in raw:
        check_pixels(point, size, where)
    return tuple((float(x), float(y)) for x, y in raw)
