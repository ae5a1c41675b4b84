"""Files of a data root for works that find out themselves what they need: on the disk, or in a store."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scenegen.stores.shared_copies import local_files
from scenegen.stores.store import Store
from scenegen.stores.urls import StoreUrl

_WORK = ".work"


class RootFiles:
    """A data root as one process sees it.

    Of a root in a store every process has a folder of its own: two of them may read the same model, and each
    removes what it has read.

    Attributes:
        root: where files are while they are `here`; the root itself where it is on the disk.
    """

    def __init__(self, root: Path, url: StoreUrl | None) -> None:
        """Prepare; folders of processes of this machine that are gone are removed.

        Args:
            root: on the disk, or the mirror of ``url``.
            url: of a root in a store.

        Raises:
            StoreError: the package for the URL is not installed.
        """
        self._url, self._store = url, None if url is None else Store(url)
        host = f"{socket.gethostname()}-"  # several may share a cache
        self.root = root if url is None else root / _WORK / f"{host}{os.getpid()}"
        if self._store is not None and self.root.parent.is_dir():
            for left in self.root.parent.iterdir():
                pid = left.name.removeprefix(host)
                if left.name.startswith(host) and pid.isdecimal() and not _is_running(int(pid)):
                    shutil.rmtree(left, ignore_errors=True)

    @property
    def is_stored(self) -> bool:
        """Whether the root is in a store."""
        return self._store is not None

    def states(self, *names: str) -> dict[str, tuple[int, str]]:
        """The files that names stand for, themselves or all below them, by name.

        Returns:
            Of each file its size, and a text that is another when its content is.

        Raises:
            StoreError: the store cannot be read.
        """
        if self._store is not None:
            return {file: state for name in names for file, state in self._store.states(name).items()}
        found = [file for name in names for file in local_files(self.root, name)]
        states = {file: (self.root / file).stat() for file in found}
        return {file: (state.st_size, str(state.st_mtime_ns)) for file, state in states.items()}

    def has_any(self, name: str) -> bool:
        """Whether there is a file or folder of this name; errors as for `states`."""
        return (self.root / name).exists() if self._store is None else self._store.has_any(name)

    @contextmanager
    def here(self, inputs: Sequence[str], outputs: Sequence[str] = ()) -> Iterator[None]:
        """Have files on the disk for the length of a block; what it made is delivered if it ends well.

        Args:
            inputs: names of files and folders that are read; those that are not there are left out.
            outputs: names of what the block makes, in the order in which it is delivered; what the store has
                below them and the block did not make is removed there.

        Raises:
            StoreError: the store cannot be read or written to.
            OSError: the disk refuses.
        """
        if self._store is None:
            yield
            return
        try:
            for name in inputs:
                self._store.fetch(name, self.root)
            yield
            for name in outputs:
                made = local_files(self.root, name)
                for file in self._store.find(name):
                    if file not in made:
                        self._store.remove(file)
                for file in made:
                    self._store.deliver(self.root, file)
        finally:
            shutil.rmtree(self.root, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self._store is None:
            (self.root / name).unlink(missing_ok=True)
        else:
            self._store.remove(name)

    def told(self, message: str) -> str:
        """A message that names the store and not the folder of this process."""
        return message if self._url is None else message.replace(str(self.root), str(self._url))


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True
