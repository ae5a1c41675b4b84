"""The table of what bounds the small model's shapes, from the records of runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trellis_modules.files import atomic_write_text

BEGIN, END = "<!-- structure bottleneck: begin -->", "<!-- structure bottleneck: end -->"
_REFERENCES = ("autoencoder", "shipped")
_FIGURES = {"fscore": "F", "fine_fscore": "fine F", "iou": "IoU"}
_SPLITS = ("train", "validation")
_COLUMNS = (
    "Variant", "Parameters of flow, encoder (M)", "Steps", "Seconds", "Velocity error", "Points",
    *(f"{title}, {split}" for title in _FIGURES.values() for split in _SPLITS),
)  # fmt: skip
_HEAD = f"| {' | '.join(_COLUMNS)} |\n|---{'|---:' * (len(_COLUMNS) - 1)}|"


def table(folders: Sequence[Path]) -> str:
    """Markdown of all records in folders: references first, then variants in the order of their F-score."""
    records = {
        path.stem: json.loads(path.read_text()) for folder in folders for path in folder.glob("*.json")
    }
    records.pop("drawing", None)
    first = [records.pop(name) for name in _REFERENCES if name in records]
    rest = sorted(records.values(), key=lambda record: -record["marks"][-1]["validation_fscore"])
    return "\n".join([_HEAD, *(row for record in [*first, *rest] for row in _rows(record))]) + "\n"


def _rows(record: dict[str, Any]) -> list[str]:
    parameters = record["parameters"]
    sizes = [f"{parameters[name] / 1e6:.1f}" for name in ("flow", "image_encoder") if name in parameters]
    rows = []
    for mark in record["marks"]:
        numbers = [
            f"{mark['steps']}" if "steps" in mark else "",
            f"{mark['seconds']:.0f}" if "seconds" in mark else "",
            *(_number(mark, name) for name in ("mse", "validation_points")),
            *(_number(mark, f"{split}_{name}") for name in _FIGURES for split in _SPLITS),
        ]
        rows.append(f"| {record['text']} | {', '.join(sizes)} | {' | '.join(numbers)} |")
    return rows


def _number(mark: dict[str, float], name: str) -> str:
    return f"{mark[name]:.3f}" if name in mark else ""


def write_table(text: str, readme: Path) -> None:
    """Put the table between the markers of a page.

    Raises:
        ValueError: the page has none.
    """
    page = readme.read_text()
    if BEGIN not in page or END not in page:
        raise ValueError(f"{readme}: expected the lines {BEGIN} and {END}, found none; add them")
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    atomic_write_text(readme, f"{before}{BEGIN}\n\n{text}\n{END}{after}")
