"""Decode the pictures that users give, with one line for each way in which they can be broken."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from safe_files.pictures import open_picture
from safe_files.regular import UnreadableFile, open_regular

_EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"}
_PNG_BIT_DEPTH_OFFSET = 24  # signature 8, chunk length and type 8, width and height 8


class SceneInputError(ValueError):
    """Input of a scene that cannot be used; the message is one line and names the file."""


def open_image(path: Path, any_depth: bool = False) -> Image.Image:
    """Decode a whole image, turned upright by its EXIF orientation.

    Args:
        path: of the image.
        any_depth: whether 16 bits a channel are welcome too.

    Raises:
        SceneInputError: the file is missing, damaged, of another kind, or has too many pixels.
    """
    try:
        with open_picture(path) as image:
            if not any_depth:
                _check_depth(path, image)
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise SceneInputError(
            f"{path}: expected a JPEG or PNG image, got other content; save it again"
        ) from error
    except UnreadableFile as error:
        raise SceneInputError(f"{path}: {error}") from error
    except SceneInputError:
        raise
    except (
        OSError,
        SyntaxError,
        EOFError,
        ValueError,
        struct.error,
    ) as error:  # what Pillow's decoders raise
        raise SceneInputError(
            f"{path}: expected a whole image, reading stopped ({error}); copy it again"
        ) from error


def _check_depth(path: Path, image: Image.Image) -> None:
    bits = _png_bit_depth(path) if image.format == "PNG" else 8
    if bits == 16 or image.mode.startswith(("I", "F")):
        raise SceneInputError(f"{path}: expected 8 bits a channel, got a 16-bit image; convert it to 8-bit")
    if image.mode not in _EIGHT_BIT_MODES:
        raise SceneInputError(
            f"{path}: expected an RGB, RGBA or grey image, got {image.mode}; convert it to RGB"
        )


def _png_bit_depth(path: Path) -> int:
    """Bit depth in a PNG's header; Pillow opens 16-bit RGB as 8-bit without saying so."""
    with open_regular(path) as file:
        header = file.read(_PNG_BIT_DEPTH_OFFSET + 1)
    return header[_PNG_BIT_DEPTH_OFFSET]


def size_text(image: Image.Image) -> str:
    """Width and height for messages."""
    return f"{image.width}x{image.height}"


def over_background(image: Image.Image, level: int) -> Image.Image:
    """Composite onto a background of one grey level and return RGB."""
    background = Image.new("RGBA", image.size, (level, level, level, 255))
    return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
