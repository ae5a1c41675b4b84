"""The fixed train / validation / test split of the furniture models.

`furniture_split.json` is the definition. It splits by source group, so that look-alikes stay together;
nothing trained, tuned or selected may see a test model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safe_files.json_reader import read_json

SPLITS = ("train", "validation", "test")
TIERS = ("floor", "small", "mounted", "flat", "drop")
SPLIT_FILE = Path(__file__).with_name("furniture_split.json")


class SplitError(ValueError):
    """The split is violated: a model in the wrong place, or a group on two sides."""


@dataclass(frozen=True)
class SplitEntry:
    """Place of one model in the split; `group` names its source or its family of look-alikes."""

    id: str
    name: str
    category: str
    super_category: str
    tier: str
    group: str
    split: str


@cache
def load_split(path: Path = SPLIT_FILE) -> dict[str, SplitEntry]:
    """Read the split, keyed by model id.

    Raises:
        SplitError: unknown tier or split, an id twice, or a group that straddles two splits.
    """
    entries = {}
    split_of_group: dict[str, str] = {}
    for raw in read_json(path)["models"]:
        entry = SplitEntry(**raw)
        if entry.split not in SPLITS or entry.tier not in TIERS:
            raise SplitError(f"{path}: {entry.id}: unknown split {entry.split!r} or tier {entry.tier!r}")
        if entry.id in entries:
            raise SplitError(f"{path}: model {entry.id} is listed twice")
        if split_of_group.setdefault(entry.group, entry.split) != entry.split:
            raise SplitError(f"{path}: group {entry.group} of {entry.id} is in two splits")
        entries[entry.id] = entry
    return entries


def check_split(model_ids: Iterable[str], split: str, path: Path = SPLIT_FILE) -> None:
    """Refuse models that do not belong to `split`; ids that are not of the split file must be procedural.

    Raises:
        SplitError: names the first model out of place.
    """
    entries = load_split(path)
    for model_id in model_ids:
        for source in source_ids(model_id):
            if source.startswith("procedural/"):
                continue
            if source not in entries:
                raise SplitError(
                    f"{model_id}: {source} is not in {path.name}; add nothing that the split does not know"
                )
            if entries[source].split != split:
                raise SplitError(
                    f"{model_id}: {source} belongs to the {entries[source].split} split, not to {split}; "
                    "leave it out"
                )


def source_ids(model_id: str) -> tuple[str, ...]:
    """The models a mesh was made of: two for a part swap "swap/a+b@height", itself for any other mesh."""
    if not model_id.startswith("swap/"):
        return (model_id,)
    return tuple(model_id.removeprefix("swap/").rpartition("@")[0].split("+"))
