"""What came of each asset of a source, and where its model is."""

from __future__ import annotations

import errno
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scenegen.datasets.metadata import AssetRow

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


def model_files(rows: Sequence[AssetRow]) -> dict[str, str]:
    """Paths below the data root of the models of assets, by key; empty for what was not downloaded."""
    return {row.sha256: row.local_path for row in rows}
