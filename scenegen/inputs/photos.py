"""The photo of a scene: found among the files of a folder, and decoded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from scenegen.inputs.image_files import SceneInputError, open_image, over_background
from scenegen.inputs.limits import MAX_ASPECT_RATIO, MIN_SIDE_PX
from scenegen.inputs.names import PHOTO_NAMES, is_photo_name


def find_photo(folder: Path, names: Sequence[str]) -> Path:
    """The photo among the names of a folder's files.

    Raises:
        SceneInputError: there is none, or several.
    """
    found = [name for name in names if is_photo_name(name)]
    if not found:
        raise SceneInputError(
            f"{folder / PHOTO_NAMES[0]}: expected the photo of the scene, found none; add it"
        )
    if len(found) > 1:
        raise SceneInputError(
            f"{folder}: expected one photo, found {' and '.join(found)}; remove all but one of them"
        )
    return folder / found[0]


def open_photo(path: Path) -> Image.Image:
    """Read the photo of a scene: RGB, upright, over white.

    Raises:
        SceneInputError: it is unreadable, too small or too elongated.
    """
    photo = open_image(path)
    width, height = photo.size
    if min(width, height) < MIN_SIDE_PX or max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise SceneInputError(
            f"{path}: expected a photo of at least {MIN_SIDE_PX} px a side and at most {MAX_ASPECT_RATIO}:1, "
            f"got {width}x{height}; use a larger or less elongated photo"
        )
    return over_background(photo, 255)
