"""Pictures, opened without decoding a pixel of those that have too many."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from safe_files.limits import HIGHEST_MAX_PIXELS, MAX_PIXELS
from safe_files.regular import UnreadableFile, open_regular

PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF")
"""The decoders that a picture is ever handed to, by Pillow's names; HEIC is one more, of another package."""

DECODING_ERRORS = (OSError, SyntaxError, EOFError, ValueError, struct.error)
"""What Pillow's decoders raise for files that are damaged or no pictures."""

_HEIF = "HEIF"
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_OTHER_KINDS = {  # first bytes -> what people call it, for the message
    b"%PDF": "a PDF",
    b"<svg": "an SVG drawing",
    b"<!do": "a web page",
    b"<htm": "a web page",
    b"8BPS": "a Photoshop file",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL": "JPEG XL",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"gimp": "a GIMP file",
    b"PK": "an archive",
}

_limit: ContextVar[int] = ContextVar("pixel_limit", default=MAX_PIXELS)


@contextmanager
def pixel_limit(max_pixels: int) -> Iterator[None]:
    """Change the limit of pixels for all pictures that are opened inside a ``with`` block.

    Raises:
        ValueError: the limit is not between 1 and `HIGHEST_MAX_PIXELS`.
    """
    if not 1 <= max_pixels <= HIGHEST_MAX_PIXELS:
        raise ValueError(f"--max-pixels: expected 1 to {HIGHEST_MAX_PIXELS}, got {max_pixels}")
    token = _limit.set(max_pixels)
    try:
        yield
    finally:
        _limit.reset(token)


@contextmanager
def open_picture(path: Path | str, formats: Sequence[str] = PICTURE_FORMATS) -> Iterator[Image.Image]:
    """Open a picture for the length of a ``with`` block; its pixels are not decoded yet.

    Args:
        path: a regular file.
        formats: decoders that may be tried; HEIC is read with `PICTURE_FORMATS` where pillow-heif is
            installed.

    Raises:
        UnreadableFile: it is no regular file, has more pixels than the limit, or is HEIC without pillow-heif.
        OSError: it cannot be read, or is no picture (``PIL.UnidentifiedImageError``).
    """
    with open_regular(path) as file, _opened(file, formats) as image:
        yield image


def read_picture(path: Path | str) -> Image.Image:
    """The first frame of a picture, decoded to its end, in the mode of the file; see `open_picture`.

    Raises:
        UnreadableFile: it is no regular file, no picture, damaged, or has more pixels than the limit.
        FileNotFoundError: there is no such file.
    """
    try:
        with open_picture(path) as image:
            image.load()
            return image.copy()
    except (FileNotFoundError, UnreadableFile):
        raise
    except DECODING_ERRORS as error:
        raise UnreadableFile(f"not readable as a picture ({error})") from error


def decode_picture(content: bytes, formats: Sequence[str] = PICTURE_FORMATS) -> Image.Image:
    """The first frame of a picture that is in memory, as `read_picture`.

    Raises:
        UnreadableFile: it is no picture of these formats, damaged, or has more pixels than the limit.
    """
    try:
        with _opened(io.BytesIO(content), formats) as image:
            image.load()
            return image.copy()
    except UnreadableFile:
        raise
    except DECODING_ERRORS as error:
        raise UnreadableFile(f"not readable as a picture ({error})") from error


@contextmanager
def _opened(file: BinaryIO, formats: Sequence[str]) -> Iterator[Image.Image]:
    """The picture in an open file, with no more pixels than the limit; none of them is decoded yet."""
    limit = _limit.get()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit decides
            image = Image.open(file, formats=_with_heif(file, formats))
    except Image.DecompressionBombError as error:
        raise UnreadableFile(
            f"expected a picture of at most {limit} pixels, got more than {HIGHEST_MAX_PIXELS}; shrink it"
        ) from error
    with image:
        width, height = image.size
        if width * height > limit:
            raise UnreadableFile(
                f"expected a picture of at most {limit} pixels, got {width}x{height}; shrink it, or "
                "allow more with --max-pixels"
            )
        yield image


def kind_of(path: Path | str) -> str:
    """What a file is that no decoder takes, in words for a message."""
    with open_regular(path) as file:
        start = file.read(16)
    if not start:
        return "an empty file"
    for magic, kind in _OTHER_KINDS.items():
        if start.lower().startswith(magic.lower()):
            return kind
    return "other content"


def _with_heif(file: BinaryIO, formats: Sequence[str]) -> list[str]:
    """The decoders for a file: those given, and that of HEIC for a HEIC file, once its package is loaded."""
    start = file.read(12)
    file.seek(0)
    if start[4:8] != b"ftyp" or start[8:12] not in _HEIF_BRANDS or formats is not PICTURE_FORMATS:
        Image.init()  # an older Pillow has no AVIF
        return [name for name in formats if name in Image.OPEN]
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise UnreadableFile(
            "expected a picture that Pillow can read, got HEIC; run bash setup.sh --heic or pip install "
            "pillow-heif, or save it as JPEG"
        ) from error
    register_heif_opener()
    return [_HEIF]
