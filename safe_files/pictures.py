"""Pictures, opened without decoding a pixel of those that have too many."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from PIL import Image

from safe_files.limits import HIGHEST_MAX_PIXELS, MAX_PIXELS
from safe_files.regular import UnreadableFile, open_regular

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
def open_picture(path: Path | str, formats: Sequence[str] | None = None) -> Iterator[Image.Image]:
    """Open a picture for the length of a ``with`` block; its pixels are not decoded yet.

    Args:
        path: a regular file.
        formats: decoders that may be tried; None: all of Pillow's.

    Raises:
        UnreadableFile: it is no regular file, or has more pixels than the limit.
        OSError: it cannot be read, or is no picture (``PIL.UnidentifiedImageError``).
    """
    limit = _limit.get()
    with open_regular(path) as file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit decides
                image = Image.open(file, formats=formats)
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
