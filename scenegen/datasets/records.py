"""What several processes write while they prepare a data set, and how it comes together.

A step that runs as rank r of W processes has its block of the assets (`shard`), and writes what it did into
``<kind>_<r>.csv`` and what failed into ``failed_<kind>_<r>.csv``. ``build_metadata`` then takes the records
into ``metadata.csv`` and moves them to ``merged_records/``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from scenegen.datasets.tables import MetadataError, OnError, read_lines, write_lines
from trellis_modules.files import atomic_write as atomic_path

__all__ = ["RecordWriter", "atomic_path", "move_to_merged", "pending_records", "read_records", "shard"]

FAILED = "failed_"
MERGED_FOLDER = "merged_records"
_T = TypeVar("_T")


def shard(items: Sequence[_T], rank: int, world_size: int) -> Sequence[_T]:
    """The block of process ``rank`` of ``world_size``: items [n rank / W, n (rank + 1) / W).

    Raises:
        ValueError: there is no such rank.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank: expected 0 to {world_size - 1} for --world_size {world_size}, got {rank}")
    return items[len(items) * rank // world_size : len(items) * (rank + 1) // world_size]


class RecordWriter:
    """The records of one process, in the order of its items whichever ends first.

    Records are on disk after every ``flush_every`` items and at the end of the ``with`` block, however it
    ends; a run that is killed and started again writes the same bytes. Records of items that are not in
    ``order``, which an earlier run left and nobody merged yet, stay in front of the new ones.
    """

    def __init__(
        self,
        root: Path,
        kind: str,
        rank: int,
        order: Iterable[str],
        *,
        key: str = "sha256",
        flush_every: int = 50,
    ) -> None:
        """Write below ``root``.

        Args:
            root: data root.
            kind: name of the records, e.g. ``rendered``.
            rank: number of this process.
            order: keys of all items of this process, in their order.
            key: name of the first column.
            flush_every: items between two writes.
        """
        self.path = root / f"{kind}_{rank}.csv"
        self.failed_path = root / f"{FAILED}{kind}_{rank}.csv"
        self.key = key
        self._order = list(order)
        self._flush_every, self._unwritten = flush_every, 0
        self._earlier = self._left_by_earlier_run()
        self._done: dict[str, dict[str, str]] = {}
        self._failed: dict[str, str] = {}

    @property
    def num_done(self) -> int:
        """Items recorded as done."""
        return len(self._done)

    @property
    def failures(self) -> Mapping[str, str]:
        """Reasons by key."""
        return self._failed

    def done(self, item: str, **values: object) -> None:
        """Record an item with what was produced."""
        self._done[item] = {self.key: item} | {name: str(value) for name, value in values.items()}
        self._count()

    def failed(self, item: str, reason: str) -> None:
        """Record why an item could not be made."""
        self._failed[item] = " ".join(reason.split())
        self._count()

    def flush(self) -> None:
        """Write what is known now.

        Raises:
            OSError: the disk refuses; the files are then as they were.
        """
        rows = [*self._earlier, *(self._done[item] for item in self._order if item in self._done)]
        columns = list(dict.fromkeys([self.key, *(name for row in rows for name in row)]))
        if rows or self.path.is_file():
            write_lines(self.path, columns, rows)
        failed = [
            {self.key: item, "error": self._failed[item]} for item in self._order if item in self._failed
        ]
        if failed:
            write_lines(self.failed_path, [self.key, "error"], failed)
        else:
            self.failed_path.unlink(missing_ok=True)
        self._unwritten = 0

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()

    def _count(self) -> None:
        self._unwritten += 1
        if self._unwritten >= self._flush_every:
            self.flush()

    def _left_by_earlier_run(self) -> list[dict[str, str]]:
        ours = set(self._order)
        if not self.path.is_file():
            return []
        try:
            rows = read_records(self.path, self.key, on_error=lambda error: None)
        except MetadataError:
            return []  # a damaged record is made again: its files are there
        return [row for item, row in rows.items() if item not in ours]


def pending_records(root: Path, kind: str) -> list[Path]:
    """Records of a kind that are not merged yet, by rank."""
    name = re.compile(re.escape(kind) + r"_(\d+)\.csv")
    found = {path: name.fullmatch(path.name) for path in root.glob("*.csv")}
    return sorted((path for path, match in found.items() if match), key=lambda path: int(found[path][1]))


def read_records(
    path: Path, key: str = "sha256", on_error: OnError | None = None
) -> dict[str, dict[str, str]]:
    """The rows of a record file by key; see `scenegen.datasets.tables.read_lines` for the errors."""
    return {row[key]: row for _, row in read_lines(path, [key], on_error)}


def move_to_merged(paths: Iterable[Path], root: Path) -> None:
    """Move records that were merged to ``merged_records/<unix seconds>_<name>``; none replaces another."""
    folder = root / MERGED_FOLDER
    for path in paths:
        folder.mkdir(exist_ok=True)
        stamp = int(time.time())
        while (target := folder / f"{stamp}_{path.name}").exists():
            stamp += 1
        path.rename(target)
