"""Records of measurements in files of JSON lines, so that a second run goes on where the first one ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

Record = dict[str, Any]


def read_records(path: Path) -> list[Record]:
    """The records of a file, in their order; none where there is no file."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def append_record(path: Path, record: Record) -> None:
    """Add a record to a file, which is made where it is missing; its folder is there."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def measure_missing(path: Path, scenes: Iterable[str], measure: Callable[[str], Record]) -> list[Record]:
    """Measure the scenes that a file does not have yet.

    Args:
        path: the file; its folder is made.
        scenes: names.
        measure: makes the record of a scene, with its name as "scene".

    Returns:
        All records of the file, those of other scenes too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    records = read_records(path)
    known = {record["scene"] for record in records}
    todo = [name for name in scenes if name not in known]
    for name in tqdm(todo, unit="scene", disable=None):
        records.append(measure(name))
        append_record(path, records[-1])
    return records
