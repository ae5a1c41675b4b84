"""The picture that is being marked: its boxes, clicks and masks, and the order and names of its objects.

Masks live here, on the server, as arrays. The browser sends boxes, clicks and the numbers of objects.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import LabelImage
from scenegen.segmentation.masks import Priority, merge_masks
from scenegen.segmentation.polygon import refine_polygon
from scenegen.segmentation.prompts import ObjectPrompt, Point
from scenegen.segmentation.segmenter import Segmenter

MAX_NAME_LENGTH = 60

_BOX_LABEL = re.compile(r"(?P<number>[0-9]{1,4})(:.*)?")

_keys = itertools.count(1)


@dataclass(frozen=True)
class CanvasBox:
    """A box as the page shows it.

    Attributes:
        box: left, top, right, bottom in pixels of the photo.
        key: of the object it belongs to; None for one that was drawn since.
    """

    box: tuple[float, float, float, float]
    key: int | None = None

    @classmethod
    def parse(cls, raw: Mapping[str, Any], keys: Sequence[int]) -> CanvasBox:
        """Read what the component for boxes sends.

        Args:
            raw: the box; its label begins with the number of its object.
            keys: of the objects that the page shows, by their numbers.

        Raises:
            SceneInputError: something else came.
        """
        try:
            scale = float(raw.get("scaleFactor") or 1)
            x0, y0, x1, y1 = (float(raw[name]) / scale for name in ("xmin", "ymin", "xmax", "ymax"))
            match = _BOX_LABEL.fullmatch(str(raw.get("label") or ""))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
            raise SceneInputError(
                f"box: expected the numbers xmin, ymin, xmax and ymax, got {str(raw):.100}; draw it again"
            ) from error
        number = 0 if match is None else int(match["number"])
        return cls((x0, y0, x1, y1), keys[number - 1] if 0 < number <= len(keys) else None)


@dataclass(frozen=True)
class PageView:
    """What the page showed when somebody did something on it.

    It may lag behind the server: answers that were still on their way then are not in it.

    Attributes:
        boxes: in the order in which they were drawn.
        keys: of the objects in its list, in their order.
    """

    boxes: tuple[CanvasBox, ...] = ()
    keys: tuple[int, ...] = ()


@dataclass(eq=False)
class MarkedObject:
    """An object of the picture.

    Attributes:
        prompt: its box, clicks and name.
        mask: (H, W) bool, as it was found and before others cover it; None where it has to be found (again).
        score: how sure the segmenter is, in [0, 1].
        key: what pages call it, whatever its place in the order is.
    """

    prompt: ObjectPrompt
    mask: np.ndarray | None = None
    score: float = 1.0
    key: int = field(default_factory=_keys.__next__)


@dataclass(eq=False)
class CurrentPicture:
    """A photo and what has been marked on it.

    Attributes:
        photo: RGB.
        sent_size: width and height in pixels before it was made smaller; by default it was not.
        name: of the photo, as a file or folder may be called.
        objects: in the order that identifies them in other photos of the scene.
        query: the object whose frame the scene gets; None leaves the choice to the order.
        selected: the object that clicks correct.
        priority: where masks overlap.
        polygons: whether masks were brought to their largest outline.
    """

    photo: Image.Image
    sent_size: tuple[int, int] = (0, 0)
    name: str = "picture"
    objects: list[MarkedObject] = field(default_factory=list)
    query: MarkedObject | None = None
    selected: MarkedObject | None = None
    priority: Priority = "smallest"
    polygons: bool = False

    def __post_init__(self) -> None:
        if self.sent_size == (0, 0):
            self.sent_size = self.photo.size

    def in_photo(self, prompt: ObjectPrompt) -> ObjectPrompt:
        """A prompt in pixels of the picture that was sent, in pixels of the photo that it became."""
        return prompt.scaled(*(now / sent for now, sent in zip(self.photo.size, self.sent_size)))

    def take_boxes(self, view: PageView, max_objects: int) -> None:
        """Bring the objects to the boxes that the page shows.

        Moved boxes lose their masks, objects whose box is gone are deleted, and new boxes become new objects
        at the end. Objects that the page did not know yet stay, and boxes of deleted ones are left out.

        Raises:
            SceneInputError: a box has no area or is outside the photo, or there are too many; nothing is
                changed then.
        """
        shown = {box.key: box.box for box in view.boxes if box.key is not None}
        kept, unknown = [], []
        for item in self.objects:
            if item.prompt.box is not None and item.key not in view.keys:
                unknown.append(item.prompt.box)
            elif item.prompt.box is not None and item.key not in shown:
                continue
            kept.append(item)
        drawn = [
            self._checked(ObjectPrompt(box=box.box), f"box {position}")
            for position, box in enumerate(view.boxes, start=1)
            if box.key is None
        ]
        new = [
            MarkedObject(prompt) for prompt in drawn if not any(_same_box(prompt.box, box) for box in unknown)
        ]
        check_count(len(kept) + len(new), max_objects)
        moved = [
            (item, self._checked(replace(item.prompt, box=box), f"box of {self.title(item)}"))
            for item in kept
            if (box := shown.get(item.key)) is not None and not _same_box(box, item.prompt.box)
        ]
        for item, prompt in moved:
            item.prompt, item.mask = prompt, None
        self.objects = [*kept, *new]
        self._forget_lost()

    def add(self, prompt: ObjectPrompt, max_objects: int) -> MarkedObject:
        """Put another object at the end.

        Raises:
            SceneInputError: see `take_boxes`.
        """
        check_count(len(self.objects) + 1, max_objects)
        item = MarkedObject(self._checked(prompt, "new object"))
        self.objects.append(item)
        return item

    def segment(self, segmenter: Segmenter, polygons: bool) -> None:
        """Find the masks that are missing, or all where ``polygons`` is not what it was.

        Raises:
            SceneInputError: there is no object, or nothing is found for one; the masks stay as they were.
        """
        if not self.objects:
            raise SceneInputError("expected a box around each object, found none; draw boxes on the picture")
        stale = [item for item in self.objects if item.mask is None or polygons != self.polygons]
        found = self._find(segmenter, stale, polygons)
        for item, (mask, score) in zip(stale, found, strict=True):
            item.mask, item.score = mask, score
        self.polygons = polygons

    def click(self, segmenter: Segmenter, number: int, point: Point, positive: bool) -> None:
        """Correct one object by a point on it or beside it.

        Args:
            number: of the object, from 1.
            point: x and y in pixels.
            positive: whether the point is on the object.

        Raises:
            SceneInputError: there is no such object, or nothing is left of it; it stays as it was.
        """
        item = self.at(number)
        old = item.prompt
        if positive:
            prompt = replace(old, positive=(*old.positive, point))
        else:
            prompt = replace(old, negative=(*old.negative, point))
        candidate = MarkedObject(self._checked(prompt, "point"))
        ((mask, score),) = self._find(segmenter, [candidate], self.polygons, self.title(item))
        item.prompt, item.mask, item.score = candidate.prompt, mask, score

    def use_labels(self, image: LabelImage, max_objects: int) -> None:
        """Take the objects from a label image, in the order of its labels, in place of all others.

        Raises:
            SceneInputError: there are too many objects.
        """
        check_count(len(image.values), max_objects)
        self.objects = [MarkedObject(ObjectPrompt(box=_box_of(mask)), mask) for mask in image.masks]
        self._forget_lost()

    def at(self, number: int) -> MarkedObject:
        """The object of a number, from 1.

        Raises:
            SceneInputError: there is none.
        """
        if not 1 <= number <= len(self.objects):
            raise SceneInputError(
                f"object {number}: expected a number from 1 to {len(self.objects)}; choose a row of the list"
            )
        return self.objects[number - 1]

    def number_of(self, key: int) -> int:
        """The number of the object with a key.

        Raises:
            SceneInputError: it is not there any more.
        """
        for number, item in enumerate(self.objects, start=1):
            if item.key == key:
                return number
        raise SceneInputError("expected an object of the list, it was deleted meanwhile; nothing was changed")

    def rename(self, number: int, name: str) -> None:
        """Call an object something; white space and what is too long is cut off."""
        item = self.at(number)
        item.prompt = replace(item.prompt, name=" ".join(name.split())[:MAX_NAME_LENGTH])

    def delete(self, number: int) -> None:
        """Take an object out; those after it move up."""
        self.objects.remove(self.at(number))
        self._forget_lost()

    def move(self, number: int, target: int) -> None:
        """Put an object at another place of the order."""
        item = self.at(number)
        self.at(target)
        self.objects.remove(item)
        self.objects.insert(target - 1, item)

    def choose_query(self, number: int | None) -> None:
        """Let the scene have the frame of this object; None leaves the choice to the order."""
        self.query = None if number is None else self.at(number)

    def select(self, number: int) -> None:
        """Let clicks correct this object."""
        self.selected = self.at(number)

    def labels(self) -> np.ndarray:
        """Which pixel belongs to which object: (H, W) uint8, k + 1 on object k, 0 on the background."""
        found = [index for index, item in enumerate(self.objects) if item.mask is not None]
        merged = np.zeros((self.photo.height, self.photo.width), np.uint8)
        if found:
            masks = np.stack([self.objects[index].mask for index in found])
            scores = [self.objects[index].score for index in found]
            numbers = np.array([0, *(index + 1 for index in found)], np.uint8)
            merged = numbers[merge_masks(masks, priority=self.priority, scores=scores)]
        return merged

    def complete_labels(self) -> np.ndarray:
        """As `labels`, where every object has pixels of its own.

        Raises:
            SceneInputError: there is no object, or one has no mask or is covered by others.
        """
        if not self.objects:
            raise SceneInputError("expected objects on the picture, found none; draw boxes and segment them")
        if missing := [self.title(item) for item in self.objects if item.mask is None]:
            raise SceneInputError(
                f"{', '.join(missing)}: expected a mask, found none yet; run the segmentation first"
            )
        labels = self.labels()
        seen = set(np.unique(labels).tolist())
        covered = [self.title(item) for number, item in enumerate(self.objects, 1) if number not in seen]
        if covered:
            raise SceneInputError(
                f"{', '.join(covered)}: expected pixels of its own, other objects cover all of it; delete "
                "it, correct it with clicks, or choose another priority for overlaps"
            )
        return labels

    def labels_as_sent(self) -> np.ndarray:
        """As `complete_labels`, (H, W) of the picture that was sent, before it was made smaller."""
        labels = Image.fromarray(self.complete_labels())
        return np.asarray(labels.resize(self.sent_size, Image.Resampling.NEAREST))

    def title(self, item: MarkedObject) -> str:
        """What messages call an object."""
        return object_title(self.objects.index(item) + 1, item.prompt.name)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the objects; empty where nobody gave one."""
        return tuple(item.prompt.name for item in self.objects)

    def canvas_boxes(self) -> list[dict[str, Any]]:
        """The boxes as the component for boxes takes them."""
        shown = []
        for number, item in enumerate(self.objects, start=1):
            if item.prompt.box is not None:
                corners = (round(value) for value in item.prompt.box)
                name = item.prompt.name
                label = f"{number}: {name}" if name else str(number)
                shown.append({**dict(zip(("xmin", "ymin", "xmax", "ymax"), corners)), "label": label})
        return shown

    def _checked(self, prompt: ObjectPrompt, what: str) -> ObjectPrompt:
        try:
            return prompt.clipped(*self.photo.size)
        except SceneInputError as error:
            raise SceneInputError(f"{what}: {error}") from error

    def _find(
        self, segmenter: Segmenter, items: Sequence[MarkedObject], polygons: bool, title: str = ""
    ) -> list[tuple[np.ndarray, float]]:
        if not items:
            return []
        found = segmenter.find_prompted(self.photo, [item.prompt for item in items])
        masks = [refine_polygon(mask) if polygons else mask for mask in found.masks]
        for item, mask in zip(items, masks, strict=True):
            if not mask.any():
                raise SceneInputError(
                    f"{title or self.title(item)}: expected an object in the box, found nothing; draw the "
                    "box closely around one object, or click on it"
                )
        scores = [1.0] * len(masks) if found.scores is None else found.scores.tolist()
        return list(zip(masks, scores, strict=True))

    def _forget_lost(self) -> None:
        if self.query not in self.objects:
            self.query = None
        if self.selected not in self.objects:
            self.selected = None


def object_title(number: int, name: str) -> str:
    """What pages and messages call object ``number``, from 1."""
    return f"object {number} ({name})" if name else f"object {number}"


def check_count(count: int, max_objects: int) -> None:
    """Refuse more objects than the server takes.

    Raises:
        SceneInputError: there are too many.
    """
    if count > max_objects:
        raise SceneInputError(
            f"expected at most {max_objects} objects, got {count}; delete some, or start the demo with a "
            "higher --max-objects"
        )


def _same_box(box: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes are equal at the whole pixels that pages keep."""
    return all(abs(a - b) <= 1.0 for a, b in zip(box, other, strict=True))


def _box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    """The box around a mask (H, W) bool."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
