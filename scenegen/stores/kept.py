"""Local copies of stored folders that stay: checkpoints, shards, scenes to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scenegen.batch.engines.tasks import TaskFunction, Work
from scenegen.stores.store import Store
from scenegen.stores.urls import StoreError, StoreUrl
from trellis_modules.files import locked


def kept_copy(url: StoreUrl, parts: Sequence[str] = ("",)) -> Path:
    """Bring a stored folder to this machine, without what is there in the same size already.

    Several processes may ask for the same folder; one of them brings it.

    Args:
        url: of the folder.
        parts: files and folders below it that are wanted; the empty name is all.

    Returns:
        The local folder.

    Raises:
        StoreError: nothing is there, or it cannot be read.
        OSError: the local disk refuses.
    """
    store, folder = Store(url), url.mirror
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait=True):
        found = {file: size for part in parts for file, size in store.find(part).items()}
        if not found:
            wanted = " or ".join(part for part in parts if part) or "files"
            raise StoreError(f"{url}: expected {wanted}, found nothing; correct the URL")
        for file, size in found.items():
            path = folder / file
            if not path.is_file() or path.stat().st_size != size:
                store.fetch(file, folder)
    return folder


@dataclass(frozen=True)
class WorkWithCopies:
    """A work that reads stored folders from their copies on each machine.

    Attributes:
        work: reads below the mirrors of the URLs.
        urls: of the folders.
    """

    work: Work
    urls: tuple[StoreUrl, ...]

    @property
    def device(self) -> str:
        """That of the work."""
        return self.work.device

    def open(self) -> TaskFunction:
        """Bring the folders and open the work; errors as for `kept_copy` and of the work."""
        for url in self.urls:
            kept_copy(url)
        return self.work.open()
