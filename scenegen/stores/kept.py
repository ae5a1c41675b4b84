"""Local copies of stored folders that stay: checkpoints, shards, scenes to compare."""

from __future__ import annotations

import shutil
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
        StoreError: nothing is there, it cannot be read, or the disk has too little space for it or refuses.
    """
    store, folder = Store(url), url.mirror
    try:
        _bring(store, folder, parts)
    except OSError as error:
        raise StoreError(
            f"{url}: expected to copy it to {folder}, the disk refuses ({error}); make space, or name a "
            "folder on another disk in SCENEGEN_CACHE"
        ) from error
    return folder


def _bring(store: Store, folder: Path, parts: Sequence[str]) -> None:
    url = store.url
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, wait=True):
        found = {file: size for part in parts for file, size in store.find(part).items()}
        if not found:
            wanted = " or ".join(part for part in parts if part) or "files"
            raise StoreError(f"{url}: expected {wanted}, found nothing; correct the URL")
        lacking = {file: size for file, size in found.items() if not _is_here(folder / file, size)}
        check_space(url, folder, sum(lacking.values()))
        for file in lacking:
            store.fetch(file, folder)


def _is_here(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def check_space(url: StoreUrl, folder: Path, wanted: int) -> None:
    """Refuse to begin a copy that the disk has no space for.

    Args:
        url: what is copied.
        folder: where to.
        wanted: bytes.

    Raises:
        StoreError: there are fewer.
    """
    if (free := shutil.disk_usage(folder).free) < wanted:
        raise StoreError(
            f"{url}: expected {wanted / 2**30:.1f} GiB free on the disk of {folder} for a copy, found "
            f"{free / 2**30:.1f}; make space, or name a folder on another disk in SCENEGEN_CACHE"
        )


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
