"""Local copies of stored files that several processes of this machine may use at the same time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from scenegen.stores.store import Store, remove_files

_ATTEMPTS = 5


class SharedCopies:
    """Copies that are there until `remove`, and are removed by the last process that uses them.

    A run that was killed leaves workers that go on for a while with tasks which the next run begins again.
    """

    def __init__(self, store: Store) -> None:
        """Prepare; nothing is asked yet."""
        self._store, self._folder = store, store.url.mirror
        self._names: list[str] = []
        self._held: list[int] = []

    def bring(self, names: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Fetch the files that names stand for, and hold them.

        Returns:
            The files, each with its state, see `file_state`.

        Raises:
            StoreError: the store cannot be read.
            OSError: the local disk refuses.
        """
        self._names += names
        for left in reversed(range(_ATTEMPTS)):
            files = [file for name in names for file in self._store.fetch(name, self._folder)]
            try:
                for file in files:
                    self._held.append(_held(self._folder / file))
                return {file: file_state(self._folder / file) for file in files}
            except FileNotFoundError:  # another process has just removed its copy
                if not left:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def remove(self) -> None:
        """Remove the files that the names stand for by now, but for those that other processes hold."""
        while self._held:
            os.close(self._held.pop())
        files = [file for name in self._names for file in local_files(self._folder, name)]
        remove_files(self._folder, [file for file in files if not _is_held(self._folder / file)])


def local_files(folder: Path, name: str) -> list[str]:
    """Local files that a name stands for, in their order; those that are being written are not among them."""
    path = folder / name
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [
        each.relative_to(folder).as_posix()
        for each in found
        if each.is_file() and not each.name.endswith(".part")
    ]


def file_state(path: Path) -> tuple[int, int]:
    """Size of a file and when it was changed, by which it is told from what it was."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _held(path: Path) -> int:
    """A descriptor by which this process holds a file, beside others that may hold it."""
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        except OSError:
            return descriptor  # no locks here, as on some network file systems
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was replaced meanwhile


def _is_held(path: Path) -> bool:
    """Whether another process holds a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # no locks here
    finally:
        os.close(descriptor)
    return False
