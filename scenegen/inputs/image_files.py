"""Decode the pictures that users give, with one line for each way in which they can be broken or unusual."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from safe_files.pictures import DECODING_ERRORS, kind_of, open_picture
from safe_files.regular import UnreadableFile, open_regular

logger = logging.getLogger(__name__)

_PNG_BIT_DEPTH_OFFSET = 24  # signature 8, chunk length and type 8, width and height 8
_DEEP_MODES = ("I", "F")
_ORIENTATION = 0x0112  # EXIF tag


class SceneInputError(ValueError):
    """Input of a scene that cannot be used; the message is one line and names the file."""

    def __init__(self, message: str) -> None:
        """Take the message; what would break its line, as in the name of a folder, is escaped."""
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """A text with line breaks and other characters that do not print written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def open_image(path: Path) -> Image.Image:
    """Decode the first frame of an image, turned upright by its EXIF orientation, in the mode of the file.

    Raises:
        SceneInputError: the file is missing, damaged, of another kind, or has too many pixels.
    """
    return open_turned(path)[0]


def open_turned(path: Path) -> tuple[Image.Image, int]:
    """Decode as `open_image`, and tell the EXIF orientation (1 to 8, 1 is upright) that was undone.

    Raises:
        SceneInputError: as `open_image`.
    """
    try:
        with open_picture(path) as image:
            frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "WEBP", "AVIF") else 1
            orientation = image.getexif().get(_ORIENTATION, 1)
            stored = image.size
            image.load()
            upright = ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise SceneInputError(
            f"{path}: expected a JPEG, PNG or other common image, got {kind_of(path)}; save it as JPEG or PNG"
        ) from error
    except UnreadableFile as error:
        raise SceneInputError(f"{path}: {error}") from error
    except DECODING_ERRORS as error:
        raise SceneInputError(
            f"{path}: expected a whole image, reading stopped ({error}); copy it again"
        ) from error
    if frames > 1:
        logger.info("%s: animated, the first of its %d frames is used", path, frames)
    return upright, orientation if upright.size != stored else 1


def to_8_bits(path: Path, image: Image.Image) -> Image.Image:
    """An image with 8 bits a channel; says in one line how a deeper one was converted.

    Raises:
        SceneInputError: it holds numbers of which no scale is known.
    """
    if not image.mode.startswith(_DEEP_MODES):
        if _png_bit_depth(path, image) == 16:
            logger.info("%s: 16 bits a channel, the upper 8 are used", path)
        return image
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 65535:
        raise SceneInputError(
            f"{path}: expected levels from 0 to 65535, got {values.min():g} to {values.max():g}; save it "
            "with 8 bits a channel"
        )
    full = 1 if values.max() <= 1 and image.mode == "F" else 255 if values.max() <= 255 else 65535
    logger.info("%s: levels up to %d, scaled to 8 bits", path, full)
    return Image.fromarray(np.rint(values * (255 / full)).astype(np.uint8))


def _png_bit_depth(path: Path, image: Image.Image) -> int:
    """Bit depth in a PNG's header; Pillow opens 16-bit RGB as 8-bit without saying so."""
    with open_regular(path) as file:
        header = file.read(_PNG_BIT_DEPTH_OFFSET + 1)
    return header[_PNG_BIT_DEPTH_OFFSET] if header.startswith(b"\x89PNG") else 8


def size_text(image: Image.Image) -> str:
    """Width and height for messages."""
    return f"{image.width}x{image.height}"


def over_background(image: Image.Image, level: int) -> Image.Image:
    """Composite onto a background of one grey level and return RGB."""
    background = Image.new("RGBA", image.size, (level, level, level, 255))
    return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
