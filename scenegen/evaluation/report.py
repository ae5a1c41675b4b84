"""From records to a report: coverage, and for each protocol means, medians and confidence intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from scenegen.evaluation.appearance import distances_of_all
from scenegen.evaluation.pictures.object_colours import colour_figures
from scenegen.evaluation.records import dump_json
from scenegen.evaluation.scene import RECORD_FORMAT, Record
from scenegen.evaluation.scene_appearance import COLOURS, FEATURES
from scenegen.evaluation.scene_files import EVALUATED, FAILED, MISSING
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.evaluation.settings import EvaluationSettings
from trellis_modules.files import atomic_write_text

_RESAMPLES = 2000
_BOOTSTRAP_SEED = 0
_CONFIDENCE_PERCENTILES = (2.5, 97.5)

# Values of one metric, one list for each scene (a scene figure is a list of one).
SceneValues = list[list[float]]


def build_report(
    records: Iterable[Record],
    settings: EvaluationSettings | dict[str, Any],
    scenes: ListedScenes | dict[str, Any],
    paths: dict[str, str],
) -> dict[str, Any]:
    """Summarise records.

    Scene metrics are averaged over scenes, object metrics over all objects of all scenes and, as
    "mean_of_scenes", over the means of the scenes. "all" counts the worst value for everything that is
    missing; "matched" leaves it out. By the paper's protocol nothing counts the worst value, and "left_out"
    says how many scenes it does not count.

    Args:
        records: from `evaluate_scene`, in the order in which they are to be reported.
        settings: of the run, or their JSON form.
        scenes: the list that was evaluated, or its JSON form.
        paths: what was compared, by name.

    Returns:
        JSON-ready report with settings, list, coverage, protocols, failures, seconds and scenes.
    """
    records = list(records)
    settings = settings if isinstance(settings, dict) else asdict(settings)
    return {
        "format": RECORD_FORMAT,
        "inputs": paths,
        "list": scenes if isinstance(scenes, dict) else asdict(scenes),
        "settings": settings,
        "coverage": _coverage(records),
        "protocols": {name: _protocol(records, name) for name in settings["protocols"]},
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
    return {
        "scenes": len(records),
        "evaluated": statuses[EVALUATED],
        "missing": statuses[MISSING],
        "failed": statuses[FAILED],
        "scene_coverage": statuses[EVALUATED] / len(records),
        "objects": sum(record["n_truth"] for record in records),
        "objects_matched": sum(record["n_matched"] for record in records),
    }


def _protocol(records: list[Record], name: str) -> dict[str, Any]:
    parts = with_colours([record["protocols"][name] for record in records])
    left_out = sum(part["left_out"] is not None for part in parts)
    return {
        "counted": len(parts) - left_out,
        "left_out": left_out,
        "summary": {
            "all": summarise(parts, with_penalties=True) | _of_all_pictures(parts),
            "matched": summarise(parts, with_penalties=False),
        },
    }


def _of_all_pictures(parts: list[Record]) -> dict[str, dict[str, Any]]:
    """FID and KID, which no scene has by itself and which have no interval."""
    features = [part[FEATURES] for part in parts if FEATURES in part]
    return {
        name: {
            "mean": value,
            "median": None,
            "ci95": [None, None],
            "mean_of_scenes": None,
            "count": len(features),
        }
        for name, value in distances_of_all(features).items()
    }


def with_colours(parts: list[Record]) -> list[Record]:
    """The records of a protocol with the figures of the colours of objects.

    One of them is of the mean colour of all true objects, so that no scene has it by itself.
    """
    entries = [entry[COLOURS] for part in parts for entry in part["objects"] if COLOURS in entry]
    if not entries:
        return parts
    mean_colour = np.mean([entry["mean"] for entry in entries], axis=0)
    return [
        part | {"objects": [_with_colour(entry, mean_colour) for entry in part["objects"]]} for part in parts
    ]


def _with_colour(entry: Record, mean_colour: np.ndarray) -> Record:
    if COLOURS not in entry:
        return entry
    kind = "metrics" if entry["matched"] else "penalties"
    return entry | {kind: entry[kind] | colour_figures(entry[COLOURS], mean_colour)}


def scene_values(parts: list[Record], with_penalties: bool) -> dict[str, SceneValues]:
    """Values of each figure, one list for each scene.

    Args:
        parts: what one protocol has of each scene.
        with_penalties: count the worst values of what is missing.
    """
    values: dict[str, SceneValues] = {}
    for position, part in enumerate(parts):
        for entry in (part, *part["objects"]):
            figures = entry["metrics"] | (entry["penalties"] if with_penalties else {})
            for name, value in figures.items():
                per_scene = values.setdefault(name, [[] for _ in parts])
                per_scene[position].append(value)
    return values


def scene_means(part: Record) -> dict[str, float]:
    """Figures of one scene by one protocol, worst values included; those of objects are means."""
    values = scene_values([part], with_penalties=True)
    return {name: float(np.mean(figures[0])) for name, figures in values.items()}


def summarise(parts: list[Record], with_penalties: bool) -> dict[str, dict[str, Any]]:
    """Statistics of each figure; see `scene_values` for the arguments."""
    values = scene_values(parts, with_penalties)
    return {name: _statistics(values[name]) for name in sorted(values)}


def _statistics(values: SceneValues) -> dict[str, Any]:
    flat = np.concatenate([np.asarray(scene, dtype=np.float64) for scene in values])
    return {
        "mean": float(flat.mean()),
        "median": float(np.median(flat)),
        "ci95": bootstrap_interval(values),
        "mean_of_scenes": float(np.mean([np.mean(scene) for scene in values if scene])),
        "count": len(flat),
    }


def bootstrap_interval(values: SceneValues) -> list[float]:
    """Return the 95 % percentile bootstrap interval [low, high] of the pooled mean.

    Whole scenes are drawn, since the objects of one scene are not independent.

    Args:
        values: the values of each scene; scenes without any are left out.

    Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13.
    """
    sums = np.array([sum(scene) for scene in values if scene])
    counts = np.array([len(scene) for scene in values if scene])
    if not np.isfinite(sums).all():  # equal pictures have an infinite ratio of signal to noise
        return [float(np.min(sums / counts)), float("inf")]
    rng = np.random.default_rng(_BOOTSTRAP_SEED)
    drawn = rng.integers(len(sums), size=(_RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return np.percentile(means, _CONFIDENCE_PERCENTILES).tolist()


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write the report; a half-written file never shows."""
    atomic_write_text(path, dump_json(report, indent=1) + "\n")
