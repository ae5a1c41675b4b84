"""The body of a response to the disk: no more than announced, not for ever, nor until the disk is full."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from safe_files.limits import SLOW_WINDOW_S, SLOWEST_BYTES_PER_S
from scenegen.hub.releases import HubError, size_text

SPARE_BYTES = 64 << 20
"""Left free on the disk."""

_BLOCK = 1 << 18
_LOOKS = 64 << 20  # bytes between two looks at the free space

Progress = Callable[[int], None]
"""Called with the bytes of the file that are on the disk."""


class TransferBroken(Exception):
    """A transfer that may be continued."""


def write_body(response: HTTPResponse, part: Path, start: int, highest: int, on_progress: Progress) -> int:
    """Append a response to a file, or begin the file anew.

    Args:
        response: its body is read to its end.
        part: the file.
        start: bytes of the file that stay; 0 begins anew.
        highest: bytes that the whole file may have.
        on_progress: see `Progress`.

    Returns:
        The bytes that were received.

    Raises:
        TransferBroken: the connection broke or was too slow.
        HubError: there are more than ``highest`` bytes, or the disk is nearly full or refuses.
    """
    try:
        with part.open("ab" if start else "wb") as file:
            received, looked = 0, _LOOKS
            speed = Speed()
            on_progress(start)
            while block := _read(response):
                if start + received + len(block) > highest:
                    part.unlink()  # it is another file
                    raise HubError(
                        f"{response.url}: expected at most {highest} bytes, got more; it is another file "
                        "than was asked for, check the endpoint and the revision"
                    )
                if received >= looked:
                    _check_free(part)
                    looked += _LOOKS
                file.write(block)
                received += len(block)
                on_progress(start + received)
                speed.add(len(block))
            return received
    except OSError as error:
        raise HubError(
            f"{part}: cannot be written ({error.strerror}); free some space or correct the permissions, then "
            "run the command again"
        ) from error


def _read(response: HTTPResponse) -> bytes:
    """The next bytes, as soon as there are any."""
    try:
        return response.read1(_BLOCK)
    except (OSError, HTTPException) as error:
        raise TransferBroken(str(error) or type(error).__name__) from error


def _check_free(part: Path) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < SPARE_BYTES:
        raise HubError(
            f"{part}: expected {size_text(SPARE_BYTES)} of free space, the disk has {size_text(free)}; free "
            "some, then run the command again"
        )


class Speed:
    """Watches that bytes keep coming."""

    def __init__(self) -> None:
        self._since, self._bytes = time.monotonic(), 0

    def add(self, count: int) -> None:
        """Note bytes that came.

        Raises:
            TransferBroken: over the last window there were too few.
        """
        self._bytes += count
        elapsed = time.monotonic() - self._since
        if elapsed < SLOW_WINDOW_S:
            return
        if self._bytes < SLOWEST_BYTES_PER_S * elapsed:
            raise TransferBroken(f"slower than {SLOWEST_BYTES_PER_S} bytes a second")
        self._since, self._bytes = time.monotonic(), 0
