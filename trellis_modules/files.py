"""Files and folders that appear whole: a run that fails or is killed leaves the old one or the new one."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A path to write to inside a ``with`` block; what is there at its end takes the place of ``path``.

    The temporary file is in the same folder, which is made where it is missing. An exception removes it and
    leaves ``path`` as it was; one that a kill left behind is overwritten by the next write.

    Args:
        path: the file to make or to replace. It gets the permissions of the temporary file.
        shared: several processes may write this file at the same time, so each has a temporary file of its
            own; what a kill leaves behind then stays.

    Raises:
        OSError: the disk refuses, or nothing was written to the temporary path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = f".{os.getpid()}" if shared else ""
    temporary = path.with_name(f".{path.name}{owner}.part")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:  # an interruption by the keyboard too; it goes on
        temporary.unlink(missing_ok=True)
        raise


class InUse(OSError):
    """Another process holds what this one wants to write."""


@contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold a folder, so that of several processes that use this function one at a time goes on.

    The end of the process gives it back, however it ends, and nothing is left in the folder. On file systems
    that know no locks nothing is held.

    Args:
        folder: exists.
        wait: for the process that holds it, rather than raise.

    Raises:
        InUse: another process holds it, and ``wait`` is false.
        OSError: the folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        os.close(descriptor)
        raise InUse(
            f"{folder}: another run writes to it; wait for its end, or choose another folder"
        ) from error
    except OSError:
        pass  # no locks here, as on some network file systems
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill inside a ``with`` block; at its end it takes the place of ``path``.

    Of a folder that was there before, nothing stays. An exception leaves it as it was and removes the new
    one; one that a kill left behind is emptied by the next write.

    Args:
        path: the folder to make or to replace; one process at a time may write it.

    Raises:
        OSError: the disk refuses.
    """
    temporary = path.with_name(f".{path.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except BaseException:  # an interruption by the keyboard too; it goes on
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def atomic_write_text(path: Path, text: str) -> None:
    """Write a text in UTF-8, see `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write bytes, see `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
