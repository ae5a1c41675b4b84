"""Data roots: their tables, and which rows of these are used; how many each filter leaves is counted."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from scenegen.datasets.furniture_ids import TRAIN, check_rows, is_train
from scenegen.datasets.metadata import ASSETS_NAME, AssetRow, SceneRow, read_assets
from scenegen.datasets.source import SourceOptions
from trellis_modules.config import ConfigError

logger = logging.getLogger(__name__)

R = TypeVar("R", AssetRow, SceneRow)


@dataclass(frozen=True)
class RowFilter(Generic[R]):
    """Which rows stay, and what those are called that do."""

    name: str
    keeps: Callable[[R], bool]


def narrowed(rows: Sequence[R], filters: Iterable[RowFilter[R]], table: Path) -> tuple[list[R], str]:
    """Apply filters one after the other.

    Args:
        rows: of the table.
        filters: in their order.
        table: for the counts.

    Returns:
        What is left, and a line with the number of rows after each filter.
    """
    counts = [f"{table}: {len(rows)} rows"]
    for one in filters:
        rows = [row for row in rows if one.keeps(row)]
        counts.append(f"{len(rows)} {one.name}")
    return list(rows), ", ".join(counts)


def check_not_empty(count: int, counts: Sequence[str]) -> None:
    """Refuse a data set without a sample.

    Args:
        count: samples.
        counts: lines of `narrowed`, for the message.

    Raises:
        ConfigError: there is none; says after which filter.
    """
    if not count:
        raise ConfigError(f"dataset: no sample is left; {'; '.join(counts)}")
    for line in counts:
        logger.info("%s", line)


def root_folders(options: SourceOptions) -> tuple[Path, ...]:
    """The data roots of a run.

    Raises:
        ConfigError: there is none, or one is no folder.
    """
    if not options.data_dirs:
        raise ConfigError("--data_dir: expected at least one data root, got none; name its folder")
    for folder in options.data_dirs:
        if not folder.is_dir():
            raise ConfigError(
                f"--data_dir: expected the folder of a data root, found no folder {folder}; check the path"
            )
    return options.data_dirs


def batch_size(options: SourceOptions) -> int:
    """Samples of a batch.

    Raises:
        ConfigError: the run does not say.
    """
    if options.batch_size is None:
        raise ConfigError("trainer: expected batch_size or batch_size_per_gpu, got neither; give one")
    return options.batch_size


def has_status(column: str) -> RowFilter:
    """Rows of assets that have stored data of a model."""
    return RowFilter(f"with {column}", lambda row: row.status.get(column, False))


def is_scored(least: float | None) -> list[RowFilter]:
    """Rows of assets with at least that aesthetic score; None takes all."""
    if least is None:
        return []
    return [RowFilter(f"with aesthetic_score >= {least:g}", lambda row: (row.aesthetic_score or 0) >= least)]


def is_of_part(validation: bool, share: float, key: Callable[[R], str]) -> list[RowFilter]:
    """Rows that are learnt from, or those that are held out.

    Args:
        validation: take those that are held out.
        share: of all, that is held out; which ones, their keys decide, in every table alike.
        key: of a row.

    Raises:
        ConfigError: what is held out is asked for and nothing is.
    """
    if not validation and not share:
        return []
    if not share:
        raise ConfigError(
            "dataset: expected validation_share above 0, got 0: nothing is held out; set it, or the "
            "trainer's validate_every to 0"
        )
    name = "held out for validation" if validation else "not held out for validation"
    return [RowFilter(name, lambda row: _is_held_out(key(row), share) == validation)]


def _is_held_out(key: str, share: float) -> bool:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") < share * (1 << 48)


@dataclass(frozen=True)
class Asset:
    """An asset and its data root."""

    root: Path
    row: AssetRow


def read_root_assets(
    options: SourceOptions, filters: Sequence[RowFilter[AssetRow]], validation_share: float
) -> tuple[list[Asset], tuple[str, ...]]:
    """The assets of all data roots that are used.

    Args:
        options: roots and part.
        filters: in their order; assets of a test split are left out before them.
        validation_share: see `is_of_part`.

    Returns:
        The assets and a line of counts for each root.

    Raises:
        ConfigError: no asset is left, or there is no root.
        MetadataError: a table is missing or has a bad line.
        SplitError: assets to learn from are furniture of another split.
    """
    part = is_of_part(options.validation, validation_share, lambda row: row.sha256)
    first = RowFilter("of the train split", is_train)
    assets, counts = [], []
    for root in root_folders(options):
        table = root / ASSETS_NAME
        rows, line = narrowed(read_assets(table), [first, *part, *filters], table)
        if not options.validation:
            check_rows(rows, TRAIN)
        assets += [Asset(root, row) for row in rows]
        counts.append(line)
    check_not_empty(len(assets), counts)
    return assets, tuple(counts)
