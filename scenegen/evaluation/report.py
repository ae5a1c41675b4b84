"""From records to a report: coverage, means, medians, confidence intervals, JSON and CSV."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from scenegen.evaluation.comparison import EvaluationSettings
from scenegen.evaluation.scene import EVALUATED, FAILED, MISSING, RECORD_FORMAT, Record
from trellis_modules.files import atomic_write, atomic_write_text

_RESAMPLES = 2000
_BOOTSTRAP_SEED = 0
_CONFIDENCE_PERCENTILES = (2.5, 97.5)

HEADLINE_METRICS = (
    "scene_fscore",
    "scene_fscore_unaligned",
    "scene_cd",
    "scene_cd_unaligned",
    "iou_bbox",
    "iou_bbox_unaligned",
    "object_fscore",
    "object_cd",
    "object_fscore_iso",
    "object_cd_iso",
    "rotation_error_deg",
    "rotation_error_symmetric_deg",
    "translation_error",
    "scale_ratio",
)
"""Metrics of the printed table, in its order; the JSON report has all of them."""

# Values of one metric, one list for each scene (a scene figure is a list of one).
_SceneValues = list[list[float]]


def build_report(
    records: Iterable[Record], settings: EvaluationSettings, paths: dict[str, str]
) -> dict[str, Any]:
    """Summarise records.

    Scene metrics are averaged over scenes, object metrics over all objects of all scenes. "all" counts the
    worst value for everything that is missing; "matched" leaves it out.

    Args:
        records: from `evaluate_scene`, in the order in which they are to be reported.
        settings: of the run.
        paths: what was compared, by name.

    Returns:
        JSON-ready report with settings, coverage, summary, failures, seconds and scenes.
    """
    records = list(records)
    return {
        "format": RECORD_FORMAT,
        "inputs": paths,
        "settings": asdict(settings),
        "coverage": _coverage(records),
        "summary": {
            "all": _summarise(records, with_penalties=True),
            "matched": _summarise(records, with_penalties=False),
        },
        "failures": [
            {"id": record["id"], "status": record["status"], "error": record["error"]}
            for record in records
            if record["status"] != EVALUATED
        ],
        "seconds_median": float(np.median([record["seconds"] for record in records])),
        "scenes": records,
    }


def _coverage(records: list[Record]) -> dict[str, int | float]:
    statuses = Counter(record["status"] for record in records)
    objects = [entry for record in records for entry in record["objects"]]
    return {
        "scenes": len(records),
        "evaluated": statuses[EVALUATED],
        "missing": statuses[MISSING],
        "failed": statuses[FAILED],
        "scene_coverage": statuses[EVALUATED] / len(records),
        "objects": len(objects),
        "objects_matched": sum(entry["matched"] for entry in objects),
    }


def _summarise(records: list[Record], with_penalties: bool) -> dict[str, dict[str, Any]]:
    values: dict[str, _SceneValues] = {}
    for position, record in enumerate(records):
        for entry in (record, *record["objects"]):
            figures = entry["metrics"] | (entry["penalties"] if with_penalties else {})
            for name, value in figures.items():
                per_scene = values.setdefault(name, [[] for _ in records])
                per_scene[position].append(value)
    return {name: _statistics(values[name]) for name in sorted(values)}


def _statistics(values: _SceneValues) -> dict[str, Any]:
    flat = np.concatenate([np.asarray(scene, dtype=np.float64) for scene in values])
    return {
        "mean": float(flat.mean()),
        "median": float(np.median(flat)),
        "ci95": bootstrap_interval(values),
        "count": len(flat),
    }


def bootstrap_interval(values: _SceneValues) -> list[float]:
    """Return the 95 % percentile bootstrap interval [low, high] of the pooled mean.

    Whole scenes are drawn, since the objects of one scene are not independent.

    Args:
        values: the values of each scene; scenes without any are left out.

    Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
    """
    sums = np.array([sum(scene) for scene in values if scene])
    counts = np.array([len(scene) for scene in values if scene])
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    drawn = rng.integers(len(sums), size=(_RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return np.percentile(means, _CONFIDENCE_PERCENTILES).tolist()


def format_table(report: dict[str, Any]) -> str:
    """Return coverage and headline metrics as text."""
    coverage, summary = report["coverage"], report["summary"]
    lines = [
        f"scenes {coverage['evaluated']}/{coverage['scenes']} evaluated "
        f"({coverage['missing']} missing, {coverage['failed']} failed), "
        f"objects {coverage['objects_matched']}/{coverage['objects']} matched; missing ones count as worst",
        f"{'metric':<30}{'mean':>10}{'95 % interval':>22}{'median':>10}{'matched only':>14}",
    ]
    for name in HEADLINE_METRICS:
        if figures := summary["all"].get(name):
            low, high = figures["ci95"]
            matched = summary["matched"].get(name)
            lines.append(
                f"{name:<30}{figures['mean']:>10.4f}{f'{low:.4f} .. {high:.4f}':>22}"
                f"{figures['median']:>10.4f}{matched['mean'] if matched else float('nan'):>14.4f}"
            )
    return "\n".join(lines)


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write the report; a half-written file never shows."""
    atomic_write_text(path, json.dumps(report, indent=1) + "\n")


def write_csv(path: Path, report: dict[str, Any]) -> None:
    """Write one row for each scene, penalties included; object figures are means over the scene."""
    rows = [_csv_row(record) for record in report["scenes"]]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)


def _csv_row(record: Record) -> dict[str, Any]:
    row = {
        "id": record["id"],
        "status": record["status"],
        "n_truth": record["n_truth"],
        "n_prediction": record["n_prediction"],
        "n_matched": sum(entry["matched"] for entry in record["objects"]),
        "alignment": (record["alignment"] or {}).get("method", ""),
        "seconds": record["seconds"],
        "error": record["error"] or "",
    }
    row |= record["metrics"] | record["penalties"]
    by_name: dict[str, list[float]] = {}
    for entry in record["objects"]:
        for name, value in (entry["metrics"] | entry["penalties"]).items():
            by_name.setdefault(name, []).append(value)
    return row | {name: float(np.mean(values)) for name, values in by_name.items()}
