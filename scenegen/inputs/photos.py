"""The photo of a scene: found among the files of a folder, and decoded."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from scenegen.inputs.cutouts import has_alpha
from scenegen.inputs.image_files import (
    SceneInputError,
    open_turned,
    over_background,
    size_text,
    to_8_bits,
)
from scenegen.inputs.limits import MAX_ASPECT_RATIO, MIN_SIDE_PX
from scenegen.inputs.names import PHOTO_NAME, is_photo_name

logger = logging.getLogger(__name__)

# EXIF orientations that swap the sides: what turns a picture drawn on the unturned file in the same way.
_TURNS = {
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ScenePhoto:
    """A photo as its objects are drawn on it.

    Attributes:
        image: RGB, upright.
        turn: how the file was turned where that swapped its sides, else None.
    """

    image: Image.Image
    turn: Image.Transpose | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.size

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.height, self.image.width

    def lay_on(self, path: Path, picture: Image.Image, what: str) -> Image.Image:
        """A mask or label image as it lies on the upright photo.

        One that was drawn on the unturned file is turned with it, and a line says so.

        Raises:
            SceneInputError: the picture has another size than the photo; ``what`` names it.
        """
        if picture.size == self.size:
            return picture
        if self.is_unturned((picture.height, picture.width)):
            logger.info("%s: drawn on the photo as it is stored, turned with it by its EXIF data", path)
            return picture.transpose(self.turn)
        raise SceneInputError(
            f"{path}: expected {what} of {size_text(self.image)} like the photo, got {size_text(picture)}; "
            f"save {what} at full photo size"
        )

    def is_unturned(self, shape: tuple[int, int]) -> bool:
        """Whether a (height, width) is that of the file before it was turned."""
        return self.turn is not None and shape == self.shape[::-1]


def find_photo(folder: Path, names: Sequence[str]) -> Path:
    """The photo among the names of a folder's files.

    Raises:
        SceneInputError: there is none, or several.
    """
    found = [name for name in names if is_photo_name(name)]
    if not found:
        raise SceneInputError(f"{folder / PHOTO_NAME}: expected the photo of the scene, found none; add it")
    if len(found) > 1:
        raise SceneInputError(
            f"{folder}: expected one photo, found {' and '.join(found)}; remove all but one of them"
        )
    return folder / found[0]


def open_photo(path: Path) -> Image.Image:
    """Read the photo of a scene: RGB, upright, over white; see `open_scene_photo`.

    Raises:
        SceneInputError: it is unreadable, too small or too elongated.
    """
    return open_scene_photo(path).image


def open_scene_photo(path: Path) -> ScenePhoto:
    """Read the photo of a scene. What is no RGB picture of 8 bits is converted, and a line says how.

    Raises:
        SceneInputError: it is unreadable, too small or too elongated.
    """
    photo, orientation = open_turned(path)
    width, height = photo.size
    if min(width, height) < MIN_SIDE_PX or max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise SceneInputError(
            f"{path}: expected a photo of at least {MIN_SIDE_PX} px a side and at most {MAX_ASPECT_RATIO}:1, "
            f"got {width}x{height}; use a larger or less elongated photo"
        )
    return ScenePhoto(_to_rgb(path, to_8_bits(path, photo)), _TURNS.get(orientation))


def _to_rgb(path: Path, photo: Image.Image) -> Image.Image:
    if photo.mode in ("RGB", "RGBX") and "transparency" not in photo.info:
        return photo.convert("RGB")
    if has_alpha(photo):
        logger.info("%s: has transparency, laid over white", path)
        return over_background(photo, 255)
    if photo.mode not in ("RGBA", "RGB"):  # these two change nothing that is seen
        logger.info("%s: %s, converted to RGB", path, _MODES.get(photo.mode, f"of the kind {photo.mode}"))
    return photo.convert("RGB")


_MODES = {
    "1": "black and white",
    "L": "grey",
    "LA": "grey",
    "P": "palette",
    "PA": "palette",
    "CMYK": "CMYK (without its colour profile)",
    "YCbCr": "YCbCr",
    "LAB": "Lab",
    "HSV": "HSV",
}
