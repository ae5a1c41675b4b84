"""The table of the sets of hard scenes, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from safe_files.json_reader import read_json
from scenegen.evaluation.loading import find_scene_files

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

ELEVATION, SIGNED_ELEVATION, OVERLAP = "elevation_error_deg", "elevation_bias_deg", "modal_overlap"
"""Names of `camera_figures`."""


def camera_figures(prediction: Path, truth: Path, ids: Sequence[str]) -> dict[str, float]:
    """How well the cameras that scenes state look down, and how well their scenes fit the masks.

    Returns:
        Median absolute and signed error of the elevation in degrees, and the mean overlap. A scene that is
        missing or states no camera covers nothing, and its camera is off by 90 degrees.
    """
    predicted, true = find_scene_files(prediction), find_scene_files(truth)
    errors, overlaps = [], []
    for scene_id in ids:
        files = predicted.get(scene_id)
        stated = None if files is None or files.poses is None else read_json(files.poses).get("camera")
        overlaps.append((stated or {}).get(OVERLAP) or 0.0)
        errors.append(90.0)
        if stated is not None:
            rotation = np.array(read_json(true[scene_id].poses)["camera"]["extrinsics"])[:3, :3]
            errors[-1] = stated["elevation_deg"] - math.degrees(math.asin(-rotation[2, 1]))
    away = np.abs(errors)
    return {
        ELEVATION: float(np.median(away)),
        SIGNED_ELEVATION: float(np.median(errors)),
        OVERLAP: float(np.mean(overlaps)),
    }


def table(reports: Mapping[str, dict[str, Any]], cameras: Mapping[str, dict[str, float]]) -> str:
    """A row for each set: means over its scenes, with the 95 % interval of the first two figures.

    Args:
        reports: of evaluate.py, by set.
        cameras: `camera_figures` of the same sets.
    """
    names = [*(f"`{figure}`" for figure in FIGURES), "elevation, error", "with its sign", f"`{OVERLAP}`"]
    lines = ["| set | scenes | " + " | ".join(names) + " |"]
    lines.append("|---|---:|" + "---:|" * len(names))
    for name, report in reports.items():
        summary, camera = report["protocols"][PROTOCOL]["summary"]["all"], cameras[name]
        cells = [_cell(summary.get(figure), number < 2) for number, figure in enumerate(FIGURES)]
        cells += [f"{camera[ELEVATION]:.1f}°", f"{camera[SIGNED_ELEVATION]:+.1f}°", f"{camera[OVERLAP]:.3f}"]
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
