"""Data roots in object stores: their tables here while a step runs, and what it made back in the store."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dataset_toolkits.merging import MODEL_FOLDERS
from scenegen.stores.store import Store
from scenegen.stores.urls import StoreError
from trellis_modules.files import InUse, locked

_TABLES = (".csv", ".txt", ".jsonl")
_MERGED = "merged_records"
_DELIVER: dict[Path, Callable[[], None]] = {}  # by local folder of the roots in stores that are in use


@contextmanager
def stored_tables(options: argparse.Namespace, further: Sequence[str] = ()) -> Iterator[None]:
    """The tables and records of a root for the length of a block; changed ones are delivered at its end.

    An interruption delivers what is on the disk by then, and `deliver_tables` does so at any time. A root on
    the disk is left alone.

    Args:
        options: with ``root_url`` and the local folder as ``output_dir``.
        further: names of other files that the step itself reads or writes.

    Raises:
        StoreError: the store cannot be read or written to, or another process of this machine has the root.
    """
    if options.root_url is None:
        yield
        return
    options.output_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        try:
            held.enter_context(locked(options.output_dir, wait=False))
        except InUse as error:
            raise StoreError(
                f"{options.root_url}: another step on this machine works on it; wait for its end, use "
                "--workers for several processes, or name another folder in SCENEGEN_CACHE"
            ) from error
        with _delivered_tables(options, further):
            yield


@contextmanager
def _delivered_tables(options: argparse.Namespace, further: Sequence[str]) -> Iterator[None]:
    """See `stored_tables`, of a root in a store that no other process has."""
    store, folder = Store(options.root_url), options.output_dir
    for path in _tables(folder, further):
        path.unlink()
    before = {}
    for name in further:
        if store.fetch(name, folder):
            before[name] = (folder / name).read_bytes()
    for name, is_folder in _entries(store):
        if not is_folder and name.endswith(_TABLES):
            store.fetch(name, folder)
            before[name] = (folder / name).read_bytes()
        if is_folder and name in MODEL_FOLDERS.values():
            for model, _ in Store(options.root_url / name).entries():
                (folder / name / model).mkdir(parents=True, exist_ok=True)

    def deliver() -> None:
        now = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _tables(folder, further)}
        for name, content in now.items():
            if before.get(name) != content:
                store.deliver(folder, name)
        for name in before.keys() - now.keys():
            store.remove(name)
        before.clear()
        before.update(now)

    _DELIVER[folder] = deliver
    try:
        yield
    finally:
        del _DELIVER[folder]
        deliver()


def deliver_tables(root: Path) -> None:
    """Deliver the tables of a root in a store as they are now, in a block of `stored_tables`."""
    if root in _DELIVER:
        _DELIVER[root]()


def _entries(store: Store) -> list[tuple[str, bool]]:
    try:
        return list(store.entries())
    except StoreError as error:
        if "found nothing" in str(error):
            return []  # a root that is begun
        raise


def _tables(folder: Path, further: Sequence[str]) -> list[Path]:
    """Tables and records on the disk, at the top and among the merged ones, and further files."""
    places = [folder, folder / _MERGED]
    tables = [
        path
        for place in places
        if place.is_dir()
        for path in sorted(place.iterdir())
        if path.is_file() and path.suffix in _TABLES
    ]
    return tables + [folder / name for name in further if (folder / name).is_file()]
