"""Which furniture an asset is, where its table says so, and that no test furniture gets into training."""

from __future__ import annotations

from collections.abc import Iterable

from scenegen.datasets.metadata import AssetRow, SceneRow
from scenegen.synthesis.furniture.split import check_split

TRAIN = "train"
FURNITURE_ID, SPLIT = "id", "split"
"""Extra columns: the id of the furniture and its split, as in `furniture_split.json`; others have none."""


def furniture_ids(rows: Iterable[AssetRow | SceneRow]) -> list[str]:
    """The different furniture ids of rows, sorted; rows of other data sets have none."""
    return sorted({row.extra[FURNITURE_ID] for row in rows if row.extra.get(FURNITURE_ID)})


def is_train(asset: AssetRow) -> bool:
    """Whether an asset may be learnt from: where its table names splits, if it is of the train split."""
    return asset.extra.get(SPLIT, TRAIN) == TRAIN


def check_rows(rows: Iterable[AssetRow | SceneRow], split: str) -> None:
    """Refuse rows whose furniture is of another split.

    Raises:
        SplitError: names the first one.
    """
    check_split(furniture_ids(rows), split)
