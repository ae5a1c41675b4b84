"""The table of the sets of hard scenes, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- table of hard_scenes.py: begin -->", "<!-- table of hard_scenes.py: end -->"
"""Between these marks the page has the table."""

FIGURES = (
    "scene_fscore",
    "scene_fscore_unaligned",
    "iou_bbox",
    "iou_bbox_unaligned",
    "object_fscore",
    "object_fscore_iso",
    "rotation_error_symmetric_deg",
    "translation_error",
    "size_agreement",
)
PROTOCOL = "corrected"


def table(reports: Mapping[str, dict[str, Any]]) -> str:
    """A row for each set: means over its scenes, with the 95 % interval of the first two figures."""
    lines = ["| set | scenes | " + " | ".join(f"`{figure}`" for figure in FIGURES) + " |"]
    lines.append("|---|---:|" + "---:|" * len(FIGURES))
    for name, report in reports.items():
        summary = report["protocols"][PROTOCOL]["summary"]["all"]
        cells = [_cell(summary.get(figure), number < 2) for number, figure in enumerate(FIGURES)]
        lines.append(f"| {name} | {report['coverage']['scenes']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(entry: dict[str, Any] | None, with_interval: bool) -> str:
    if entry is None:
        return ""
    digits = 1 if abs(entry["mean"]) >= 5 else 3
    text = f"{entry['mean']:.{digits}f}"
    if not with_interval:
        return text
    low, high = entry["ci95"]
    return f"{text} ({low:.{digits}f} to {high:.{digits}f})"
