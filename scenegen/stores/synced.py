"""A local folder whose files go to a store as they change: what a long run writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from scenegen.stores.shared_copies import file_state
from scenegen.stores.store import Store
from scenegen.stores.urls import StoreUrl

_SMALL = 1 << 20  # bytes; files up to this size are always brought, as one may change and keep its size


class SyncedFolder:
    """A folder here and the one in the store that it is delivered to."""

    def __init__(self, url: StoreUrl, folder: Path, rank_of: Callable[[str], int] = lambda name: 0) -> None:
        """Prepare; nothing is asked yet.

        Args:
            url: in the store.
            folder: here.
            rank_of: name of a file -> when it is delivered: those of higher ranks come last, and go first.

        Raises:
            StoreError: the package for the URL is not installed.
        """
        self.url, self.folder = url, folder
        self._store, self._rank_of = Store(url), rank_of
        self._delivered: dict[str, tuple[int, int]] | None = None

    def fetch(self) -> None:
        """Bring what the store has and this machine has not; files that are here alone stay.

        Raises:
            StoreError: the store cannot be read.
            OSError: the local disk refuses.
        """
        for name, size in self._store.find("").items():
            path = self.folder / name
            if size <= _SMALL or not path.is_file() or path.stat().st_size != size:
                self._store.fetch(name, self.folder)

    def deliver(self) -> None:
        """Put what is new or has changed into the store, and remove there what is gone here.

        Raises:
            StoreError: the store cannot be written to; what was not delivered is tried again the next time.
        """
        if self._delivered is None:
            self._delivered = self._known()
        here = {name: file_state(self.folder / name) for name in self._names()}
        changed = [name for name, state in here.items() if self._delivered.get(name) != state]
        for name in sorted(changed, key=self._rank_of):
            self._store.deliver(self.folder, name)
            self._delivered[name] = here[name]
        gone = self._delivered.keys() - here.keys()
        for name in sorted(sorted(gone), key=self._rank_of, reverse=True):
            self._store.remove(name)
            del self._delivered[name]

    def _known(self) -> dict[str, tuple[int, int]]:
        """Files that are in the store; small ones count as others than those that are here."""
        known = {}
        for name, size in self._store.find("").items():
            path = self.folder / name
            is_same = size > _SMALL and path.is_file() and path.stat().st_size == size
            known[name] = file_state(path) if is_same else (-1, -1)
        return known

    def _names(self) -> list[str]:
        found = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        whole = (path for path in found if not path.name.startswith("."))  # others are being written
        return [path.relative_to(self.folder).as_posix() for path in whole]
