"""One function for many assets, in threads: what it gave, and why it failed, for each."""

from __future__ import annotations

import errno
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scenegen.datasets.metadata import AssetRow

InstanceFunction = Callable[[Path, str], Mapping[str, Any]]
"""Model file and key of an asset -> fields of its record."""

OBJECT_ERRORS = (OSError, ValueError, RuntimeError)
"""What one asset may raise without ending the run: its files, its content, a program run for it."""

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


logger = logging.getLogger(__name__)


class SubsetError(RuntimeError):
    """The assets of a source cannot be listed or fetched."""


@dataclass(frozen=True)
class Outcome:
    """What came of one asset: the fields of its record, or an error."""

    sha256: str
    values: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


def keep_unique(rows: Iterable[AssetRow]) -> list[AssetRow]:
    """The rows with one for each key; those that share a key with an earlier one are named and left out."""
    by_key: dict[str, list[AssetRow]] = defaultdict(list)
    for row in rows:
        by_key[row.sha256].append(row)
    for same in filter(lambda same: len(same) > 1, by_key.values()):
        names = ", ".join(row.file_identifier for row in same)
        logger.warning("%s: one model file under several names, the first is kept: %s", same[0].sha256, names)
    return [same[0] for same in by_key.values()]


def attempt(sha256: str, function: Callable[[], Mapping[str, Any]]) -> Outcome:
    """The outcome of a function for one asset.

    Raises:
        OSError: the disk is full or cannot be written to, which no other asset would survive.
    """
    try:
        return Outcome(sha256, function())
    except OBJECT_ERRORS as error:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            raise
        return Outcome(sha256, error=str(error) or type(error).__name__)


def for_each(
    rows: Sequence[AssetRow],
    output_dir: Path,
    function: InstanceFunction,
    max_workers: int | None = None,
) -> Iterator[Outcome]:
    """Call a function for every asset, in threads.

    Args:
        rows: assets with a ``local_path``; others get an error.
        output_dir: what the paths are relative to.
        function: see `InstanceFunction`.
        max_workers: threads; None takes one for each CPU.

    Yields:
        An outcome for every row, in the order in which they end; once the caller stops, no work is started.

    Raises:
        OSError: see `attempt`.
    """
    workers = max_workers or os.cpu_count() or 1

    def run(row: AssetRow) -> Mapping[str, Any]:
        if not row.local_path:
            raise ValueError("no local_path; run download, then build_metadata")
        path = output_dir / row.local_path
        if not path.is_file():
            raise ValueError(f"{path}: expected the model file, found none; run download again")
        return function(path, row.sha256)

    waiting, running = iter(rows), set[Future[Outcome]]()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                while len(running) < 2 * workers and (row := next(waiting, None)) is not None:
                    running.add(pool.submit(attempt, row.sha256, lambda row=row: run(row)))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
