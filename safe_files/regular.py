"""Opening files that are files: a named pipe, a device or a socket would be waited for, or never end."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_SHOWN = 80
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # opening a named pipe waits for its writer otherwise


class UnreadableFile(ValueError):
    """Content that is not read; the message is one line, without the name of the file."""


def open_regular(path: Path | str) -> BinaryIO:
    """Open a file for reading bytes, without waiting where it is none.

    Raises:
        UnreadableFile: it is a folder, a named pipe, a device or a socket.
        OSError: there is no such file, or it cannot be opened.
    """
    check_regular(path)
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | _NO_WAITING)
    try:
        _check_mode(os.fstat(descriptor).st_mode)  # it may have been replaced meanwhile
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def check_regular(path: Path | str) -> None:
    """Check a file that a library opens by its path.

    Raises:
        UnreadableFile: it is a folder, a named pipe, a device or a socket.
        OSError: there is no such file.
    """
    _check_mode(os.stat(path).st_mode)


def read_bytes(path: Path | str, max_bytes: int) -> bytes:
    """The content of a file.

    Raises:
        UnreadableFile: it is larger, or no regular file.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > max_bytes:
            raise UnreadableFile(f"expected at most {max_bytes} bytes, got {size}")
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:  # it grows, or its file system does not tell sizes
        raise UnreadableFile(f"expected at most {max_bytes} bytes, got more")
    return content


def shown(value: object) -> str:
    """A value for a message: its ``repr``, shortened where it is long.

    Of a number or a text only the part that is shown is ever written out.
    """
    if isinstance(value, str) and len(value) > _SHOWN:
        return f"{value[: _SHOWN // 2]!r}... ({len(value)} characters)"
    text = repr(value)
    return text if len(text) <= 2 * _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _check_mode(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise UnreadableFile(f"expected a file, got {_KINDS.get(stat.S_IFMT(mode), 'something else')}")
