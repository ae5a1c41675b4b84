"""Masks as one label image: what inference writes for the user to see and correct, and what it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from safe_files.pictures import open_picture
from scenegen.inputs.image_files import SceneInputError, over_background
from scenegen.inputs.label_noise import Colours, component_sizes, fill, is_crisp, restore_labels
from scenegen.inputs.limits import MAX_OBJECTS, MIN_MASK_PX
from trellis_modules.files import atomic_write

_PUBLISHED = (  # label 1 and on, as in the published demo
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255), (128, 0, 0),
    (0, 128, 0), (0, 0, 128), (128, 128, 0), (128, 0, 128), (0, 128, 128), (64, 0, 0), (0, 64, 0), (0, 0, 64),
    (64, 64, 0), (64, 0, 64), (0, 64, 64), (192, 192, 192), (128, 128, 128), (255, 165, 0), (75, 0, 130),
    (238, 130, 238),
)  # fmt: skip
MAX_LABELS = 255
"""Labels that one label image can hold, as its pixels have 8 bits and 0 is the background."""

_GRID_LEVELS = (0, 36, 73, 109, 146, 182, 219, 255)  # of the colours after the published ones
_NOTE = "scenegen labels sha256"
_SOURCE_NOTE = "scenegen source sha256"
_CODE = np.array([1 << 16, 1 << 8, 1])
_LEAST_BACKGROUND = 0.02  # of an image that is not crisp; photos have less
_SMALLEST_SHARE = 1e-4  # of the image: 10 x 10 pixels of a million


def _palette() -> np.ndarray:
    """Colours (256, 3) uint8 of the labels: black, the published ones, then always the one farthest from all.

    Greys are left out of the added colours, because a grey image has its grey values as labels.
    """
    colours = np.array([(0, 0, 0), *_PUBLISHED])
    grid = np.stack(np.meshgrid(*[_GRID_LEVELS] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[grid.min(axis=1) < grid.max(axis=1)]
    distance = np.linalg.norm(grid[:, None] - colours[None], axis=-1).min(axis=1)
    added = []
    for _ in range(1 + MAX_LABELS - len(colours)):
        added.append(grid[distance.argmax()])
        distance = np.minimum(distance, np.linalg.norm(grid - added[-1], axis=-1))
    return np.concatenate([colours, added]).astype(np.uint8)


PALETTE = _palette()


@dataclass(frozen=True)
class Dropped:
    """What was left out of a label image because it is too small.

    Attributes:
        label: whose pixels it is.
        specks: separate areas.
        pixels: all of them together.
        is_whole: whether nothing of the label is left.
    """

    label: int
    specks: int
    pixels: int
    is_whole: bool


@dataclass(frozen=True)
class LabelImage:
    """The objects of a label image.

    Attributes:
        labels: (H, W) int32, 0 on the background; equal numbers are one object. A colour of `PALETTE` or a
            palette index is its own number, so that the same drawing gives the same numbers.
        values: the numbers of the objects, ascending, which is their order.
        source: what the numbers are, in words, for example "palette indices".
        cleaned: whether smoothing or compression was taken out: each pixel went to the label that it was
            drawn with, as well as can be told.
        dropped: what was too small, by ascending label.
        min_area: pixels below which an area is too small.
        lost: pixels of each area whose colour compression or smoothing made unreadable; it is a part of what
            is around.
    """

    labels: np.ndarray
    values: tuple[int, ...]
    source: str
    cleaned: bool = False
    dropped: tuple[Dropped, ...] = ()
    min_area: int = 0
    lost: tuple[int, ...] = ()

    @property
    def masks(self) -> list[np.ndarray]:
        """Per object, (H, W) bool."""
        return [self.labels == value for value in self.values]

    @property
    def count_text(self) -> str:
        """How many objects there are, in words."""
        return f"{len(self.values)} object{'s' if len(self.values) != 1 else ''}"

    @property
    def summary(self) -> str:
        """One line: how many objects, what tells them apart, what was taken out and what was left out."""
        parts = [f"{self.count_text}, told apart by {self.source}"]
        if self.cleaned:
            parts.append("smoothed or compressed edges went to the nearest of them")
        if self.dropped:
            specks = sum(item.specks for item in self.dropped)
            pixels = sum(item.pixels for item in self.dropped)
            whole = [str(item.label) for item in self.dropped if item.is_whole]
            gone = f", among them all of label {', '.join(whole)}" if whole else ""
            parts.append(
                f"left out {specks} speck{'s' if specks != 1 else ''} below {self.min_area} pixels, "
                f"together {pixels} pixels{gone}"
            )
        if self.lost:
            areas = "an area" if len(self.lost) == 1 else f"{len(self.lost)} areas"
            parts.append(
                f"left out {areas} of {_sizes(self.lost)} pixels whose colour cannot be told; save the label "
                "image as PNG, without smoothing, to keep what is an object"
            )
        return "; ".join(parts)


def _sizes(pixels: Sequence[int]) -> str:
    """Sizes in words: one, or the smallest and the largest of several."""
    low, high = min(pixels), max(pixels)
    return str(low) if low == high else f"{low} to {high}"


def default_min_area(shape: Sequence[int]) -> int:
    """Pixels below which an area of a label image of shape (H, W) is taken for a speck."""
    return max(MIN_MASK_PX, round(_SMALLEST_SHARE * shape[0] * shape[1]))


def label_map(masks: np.ndarray) -> np.ndarray:
    """Give each pixel to one object: where masks overlap, to the smallest, which as a rule stands in front.

    Args:
        masks: (N, H, W) bool, N < 256.

    Returns:
        (H, W) uint8: k + 1 on object k, 0 on the background. A label is missing where smaller objects cover
        all of a mask, or where it is empty.
    """
    labels = np.zeros(masks.shape[1:], np.uint8)
    areas = masks.sum(axis=(1, 2))
    for index in np.argsort(-areas, kind="stable"):
        labels[masks[index]] = index + 1
    return labels


def write_labels(labels: np.ndarray, path: Path, source: str | None = None) -> None:
    """Save labels as a palette PNG: pixel values are the labels, the colours tell them apart.

    The file notes a digest of the labels, by which `is_as_written` knows it again.

    Args:
        labels: (H, W) uint8, up to `MAX_LABELS`.
        path: its folder is made where it is missing.
        source: digest of what the labels were found in, which `noted_source` reads again.

    Raises:
        OSError: the disk refuses.
    """
    image = Image.fromarray(labels)
    image.putpalette(PALETTE.tobytes())
    notes = PngInfo()
    notes.add_text(_NOTE, _digest(labels))
    if source is not None:
        notes.add_text(_SOURCE_NOTE, source)
    with atomic_write(path) as temporary:  # half a file would count as one that a person changed
        image.save(temporary, format="PNG", pnginfo=notes)


def is_as_written(path: Path) -> bool:
    """Whether `write_labels` wrote this file and nobody changed its labels since."""
    try:
        with open_picture(path) as image:
            return image.mode == "P" and image.info.get(_NOTE) == _digest(np.asarray(image))
    except (OSError, ValueError):  # whatever it is, it is not ours
        return False


def noted_source(path: Path) -> str | None:
    """The digest that `write_labels` noted in a file; None where there is none."""
    try:
        with open_picture(path) as image:
            return image.info.get(_SOURCE_NOTE)
    except (OSError, ValueError):
        return None


def _digest(labels: np.ndarray) -> str:
    return hashlib.sha256(repr(labels.shape).encode("ascii") + labels.tobytes()).hexdigest()


def read_label_image(
    image: Image.Image,
    *,
    where: Path | str = "labels",
    max_objects: int = MAX_OBJECTS,
    min_area: int | None = None,
) -> LabelImage:
    """Tell the objects of a label image, also of one that was smoothed, resized or saved as JPEG.

    Palette indices and grey values, of 8 or 16 bits, are labels as they are. So are the colours of `PALETTE`;
    other colours are labels above them. Black is the background. Where the image holds more values than what
    was drawn, the colours that fill areas are found, each pixel of an edge goes to the nearest of them beside
    it, and areas too small to be an object are left out.

    Args:
        image: of any mode.
        where: begins messages.
        max_objects: objects above which the image is refused.
        min_area: pixels below which a connected area is left out; None takes one pixel of 10,000; 0 or 1
            keeps everything.

    Raises:
        SceneInputError: there is no object, there are too many, or the image is something else than labels.
    """
    smallest = default_min_area((image.height, image.width)) if min_area is None else min_area
    numbers, source = _numbers(image)
    if not numbers.any():
        raise SceneInputError(
            f"{where}: expected a label above 0 for each object, all pixels are 0; draw the objects"
        )
    lost: tuple[int, ...] = ()
    cleaned = not is_crisp(numbers, max_objects, len(PALETTE) if source == "colours" else 0, smallest)
    if cleaned:
        numbers, lost = _without_noise(image, numbers, source, smallest, where)
        if (background := float((numbers == 0).mean())) < _LEAST_BACKGROUND:
            raise SceneInputError(
                f"{where}: expected black on the background, got {100 * background:.1f} % of black, like a "
                "photo; save the label image itself, as a PNG"
            )
    labels, dropped = _without_specks(numbers.astype(np.int32), smallest)
    values = np.unique(labels[labels > 0])
    if len(values) == 0:
        raise SceneInputError(
            f"{where}: expected an object of at least {smallest} pixels, the largest area has "
            f"{max((item.pixels for item in dropped), default=0)}; fill each object with one colour, or "
            "lower --min-area"
        )
    if len(values) > max_objects:
        raise SceneInputError(
            f"{where}: expected at most {max_objects} objects, got {len(values)}; split the scene, or "
            "raise --max-objects"
        )
    return LabelImage(labels, tuple(values.tolist()), source, cleaned, dropped, smallest, lost)


def _numbers(image: Image.Image) -> tuple[np.ndarray, str]:
    """The label of every pixel as it stands in the file: (H, W) integers, and what they are."""
    if image.mode == "P" and not _has_black_elsewhere(image):
        return np.asarray(image).astype(np.int32), "palette indices"
    image = _without_alpha(image)
    if image.mode == "L" or image.mode.startswith("I"):
        return np.asarray(image).astype(np.int32), "grey values"
    if image.mode == "1":
        return np.asarray(image).astype(np.int32), "black and white"
    rgb = np.asarray(image.convert("RGB"))
    numbers = _colour_numbers(rgb)
    if (rgb == rgb[..., :1]).all() and (numbers >= len(PALETTE)).any():
        return rgb[..., 0].astype(np.int32), "grey values"
    return numbers, "colours"


def _without_alpha(image: Image.Image) -> Image.Image:
    """The image with what is transparent black."""
    if "A" in image.mode or "transparency" in image.info:
        return over_background(image, 0)
    return image


def _has_black_elsewhere(image: Image.Image) -> bool:
    """Whether a palette has its black at another index than 0: made from colours, its order means nothing."""
    palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if not len(palette) or not palette[0].any():
        return False
    used = np.unique(np.asarray(image))
    return bool((palette[used[used < len(palette)]] == 0).all(axis=1).any())


def _colour_numbers(rgb: np.ndarray) -> np.ndarray:
    """Colours (..., 3) uint8 as numbers (...): of `PALETTE` their index, others above it and all distinct."""
    codes, known = rgb.astype(np.int32) @ _CODE, PALETTE.astype(np.int32) @ _CODE
    order = np.argsort(known)
    nearest = order[np.searchsorted(known[order], codes).clip(max=len(known) - 1)]
    return np.where(known[nearest] == codes, nearest, len(known) + codes)


def _without_noise(
    image: Image.Image, numbers: np.ndarray, source: str, min_area: int, where: Path | str
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Labels (H, W) of an image that holds more values than were drawn, and the pixels of lost areas."""
    is_grey = source == "grey values"
    values = numbers[..., None] if is_grey else np.asarray(_without_alpha(image).convert("RGB"))
    found = restore_labels(values, None if is_grey else PALETTE.astype(np.int32), min_area)
    if found is None:
        raise SceneInputError(
            f"{where}: expected areas of one value or colour per object, got {len(np.unique(numbers))} "
            "values that fill none, like a photo; save the label image itself, as a PNG"
        )
    return _numbers_of(found, is_grey), found.lost


def _numbers_of(found: Colours, is_grey: bool) -> np.ndarray:
    colours = found.colours[:, 0] if is_grey else _colour_numbers(found.colours.astype(np.uint8))
    return colours[found.indices]


def _without_specks(labels: np.ndarray, min_area: int) -> tuple[np.ndarray, tuple[Dropped, ...]]:
    """Labels in which areas below ``min_area`` pixels are what surrounds them, and what was dropped."""
    if min_area <= 1:
        return labels, ()
    areas, owners, sizes = component_sizes(labels)
    small = (sizes < min_area) & (owners > 0)
    if not small.any():
        return labels, ()
    dropped = [
        Dropped(
            int(label),
            int((small & (owners == label)).sum()),
            int(sizes[small & (owners == label)].sum()),
            bool(small[owners == label].all()),
        )
        for label in np.unique(owners[small])
    ]
    return fill(labels, small[areas]), tuple(dropped)
