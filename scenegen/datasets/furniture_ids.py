"""Which furniture an asset is, where its table says so, and that no test furniture gets into training."""

from __future__ import annotations

from collections.abc import Iterable

from scenegen.datasets.metadata import AssetRow, SceneRow
from scenegen.synthesis.furniture.split import check_split

FURNITURE_ID = "id"
"""Extra column with the furniture's id, as in `furniture_split.json`; other data sets have none."""


def furniture_ids(rows: Iterable[AssetRow | SceneRow]) -> list[str]:
    """The different furniture ids of rows, sorted; rows of other data sets have none."""
    return sorted({row.extra[FURNITURE_ID] for row in rows if row.extra.get(FURNITURE_ID)})


def check_rows(rows: Iterable[AssetRow | SceneRow], split: str) -> None:
    """Refuse rows whose furniture is of another split.

    Raises:
        SplitError: names the first one.
    """
    check_split(furniture_ids(rows), split)
