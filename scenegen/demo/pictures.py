"""Pictures that visitors bring, read by what they hold; and pictures that the page shows of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from scenegen.demo.prompts import CurrentPicture
from scenegen.inputs.image_files import SceneInputError, open_image
from scenegen.inputs.label_image import PALETTE, LabelImage, read_label_image
from scenegen.inputs.photos import open_photo

SHOWN_QUALITY = 88
PAIR_HEIGHT = 320
_TINT = 0.45
_POINT_RADIUS = 5


def read_photo(path: Path, name: str, max_side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Read an uploaded photo, whatever its name says it is.

    Args:
        path: of the file.
        name: what the visitor calls it, for messages.
        max_side: pixels; a larger photo is made smaller.

    Returns:
        The photo, RGB and upright, and its width and height before it was made smaller.

    Raises:
        SceneInputError: it is no photo, damaged, too small, too large or too elongated.
    """
    photo = _renamed_errors(open_photo, path, name)
    longest = max(photo.size)
    if longest <= max_side:
        return photo, photo.size
    width, height = (max(1, round(side * max_side / longest)) for side in photo.size)
    return photo.resize((width, height), Image.Resampling.LANCZOS), photo.size


def read_uploaded_labels(
    path: Path, name: str, picture: CurrentPicture, max_objects: int, min_area: int | None
) -> LabelImage:
    """Read an uploaded label image for a picture.

    Args:
        path, name: see `read_photo`.
        picture: that the labels are of; where it was made smaller, so are labels of its first size.
        max_objects: more are refused.
        min_area: pixels below which an area is left out; None takes one of 10,000.

    Raises:
        SceneInputError: it is no label image, of another size or shape than the photo, or has no object.
    """
    photo = picture.photo
    image = _renamed_errors(open_image, path, name)
    was_larger = picture.sent_size != photo.size
    if was_larger and image.width > photo.width and _same_shape(image.size, photo.size):
        image = image.resize(photo.size, Image.Resampling.NEAREST)
    if image.size != photo.size:
        raise SceneInputError(
            f"{name}: expected labels of {photo.width}x{photo.height} like the picture, got "
            f"{image.width}x{image.height}; save the labels at the picture's size"
        )
    return read_label_image(image, where=name, max_objects=max_objects, min_area=min_area)


def _same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two pictures of these sizes have the same proportions, but for rounding to whole pixels."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(size)


def write_shown(image: Image.Image, path: Path) -> Path:
    """Save a picture that is only looked at, in little space."""
    image.save(path, quality=SHOWN_QUALITY)
    return path


def draw_overlay(picture: CurrentPicture) -> Image.Image:
    """The photo with its objects tinted, outlined and numbered, the boxes without a mask, and the clicks."""
    labels = picture.labels()
    numbers = range(1, len(picture.objects) + 1)
    image = draw_labels(picture.photo, labels, numbers)
    draw = ImageDraw.Draw(image)
    for number, item in enumerate(picture.objects, start=1):
        if item.mask is None and item.prompt.box is not None:
            draw.rectangle(item.prompt.box, outline=colour_of(number), width=2)
        for points, sign in ((item.prompt.positive, "+"), (item.prompt.negative, "-")):
            for x, y in points:
                _draw_point(draw, x, y, sign)
    return image


def draw_labels(photo: Image.Image, labels: np.ndarray, numbers: Sequence[int]) -> Image.Image:
    """A photo with its objects tinted, outlined and numbered.

    Args:
        photo: RGB.
        labels: (H, W), 0 on the background.
        numbers: the labels that are shown.
    """
    pixels = np.asarray(photo).astype(np.float32)
    shown = np.isin(labels, list(numbers))
    colours = PALETTE[labels].astype(np.float32)
    pixels = np.where(shown[..., None], (1 - _TINT) * pixels + _TINT * colours, pixels)
    edge = shown & (labels != ndimage.minimum_filter(labels, 3)) | (
        shown & (labels != ndimage.maximum_filter(labels, 3))
    )
    pixels[edge] = colours[edge]
    image = Image.fromarray(np.rint(pixels).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(14, round(min(photo.size) / 24)))
    for number in numbers:
        if (place := _middle(labels == number)) is not None:
            draw.text(place, str(number), (255, 255, 255), font, "mm", stroke_width=2, stroke_fill=(0, 0, 0))
    return image


def draw_pair(photo: Image.Image, labels: np.ndarray, count: int) -> Image.Image:
    """A photo and its numbered objects side by side, for the gallery of the cache."""
    numbered = draw_labels(photo, labels, range(1, count + 1))
    width = max(1, round(photo.width * PAIR_HEIGHT / photo.height))
    pair = Image.new("RGB", (2 * width, PAIR_HEIGHT))
    for column, image in enumerate((photo, numbered)):
        pair.paste(image.resize((width, PAIR_HEIGHT), Image.Resampling.LANCZOS), (column * width, 0))
    return pair


def colour_of(number: int) -> tuple[int, int, int]:
    """The colour of object ``number``, from 1, in every picture of the page."""
    red, green, blue = PALETTE[number % len(PALETTE)].tolist()
    return red, green, blue


def _middle(mask: np.ndarray) -> tuple[int, int] | None:
    """A place deep inside a mask, x and y; None where it is empty."""
    if not mask.any():
        return None
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return int(column) - 1, int(row) - 1


def _draw_point(draw: ImageDraw.ImageDraw, x: float, y: float, sign: str) -> None:
    radius = _POINT_RADIUS
    fill = (40, 200, 80) if sign == "+" else (230, 60, 60)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill, (255, 255, 255))
    draw.line((x - 3, y, x + 3, y), (255, 255, 255), 2)
    if sign == "+":
        draw.line((x, y - 3, x, y + 3), (255, 255, 255), 2)


def _renamed_errors(read: Callable[[Path], Image.Image], path: Path, name: str) -> Image.Image:
    """Read a file; messages call it as the visitor does and do not show where it lies on the server."""
    if not path.is_file():
        raise SceneInputError(
            f"{name}: expected an uploaded file, the server keeps them for some minutes only; upload it again"
        )
    try:
        return read(path)
    except SceneInputError as error:
        words = str(error).replace(str(path), name).replace("copy it again", "upload it again")
        raise SceneInputError(words) from error
