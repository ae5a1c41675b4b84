"""What of generated scenes stands: as placed by the networks, refined, completed, and settled.

    python inference.py --input data/scenes/masked_images_test --limit 20 --output data/plain --no-appearance
    python -m benchmarks.physics --prediction data/plain --root data/scenes --output data/physics

Each scene is judged as ``evaluate.py --physics`` does, with the photo's masks and camera known to the
refinement: as generated; with its objects only placed better; with `--refine`, which completes them first;
and with `--settle`. Finished scenes are kept in ``<output>/records.jsonl``, so that a second run goes on
where the first one ended.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kept_records import measure_missing
from benchmarks.placement_refinement import box_overlaps, evaluation_scene, load_result, with_camera
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.evaluation.loading import SceneFiles, find_scene_files, normalise_scene
from scenegen.evaluation.scene_physics import (
    STABLE,
    STABLE_TRUTH,
    TruePhysics,
    add_physics,
    true_physics,
)
from scenegen.inputs.scene_folder import read_scene
from scenegen.pipelines.result import SceneResult
from scenegen.refinement.placement import refine_result
from scenegen.refinement.settings import DEFAULT_SETTINGS

WAYS = {
    "plain": None,
    "placed": replace(DEFAULT_SETTINGS, complete=False),
    "refined": DEFAULT_SETTINGS,
    "settled": replace(DEFAULT_SETTINGS, settle=True),
}
"""How scenes are refined; None leaves them as they are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the scenes that are not measured yet, and print a table of all of them."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    options = parse_arguments(arguments)
    truths = find_scene_files(options.root / f"scene_{options.set}")
    found = find_scene_files(options.prediction)
    records = measure_missing(
        options.output / "records.jsonl",
        [name for name in list(found)[: options.limit] if name in truths],
        lambda name: measure(found[name], truths[name], name, options),
    )
    print(table(records, options.ways))
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--prediction", type=Path, required=True, metavar="DIR")
    parser.add_argument("--root", type=Path, required=True, metavar="DIR")
    parser.add_argument("--set", default="test", help="(%(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--limit", type=positive_int, default=20, help="scenes (%(default)s)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="(%(default)s)")
    return parser.parse_args(arguments)


def measure(
    files: SceneFiles, truth_files: SceneFiles, name: str, options: argparse.Namespace
) -> dict[str, Any]:
    """Judge one scene in all ways."""
    masks = read_scene(options.root / f"masked_images_{options.set}" / name)[0].masks
    truth = load_result(truth_files)
    true = true_physics(normalise_scene(evaluation_scene(truth)))
    plain = with_camera(load_result(files), masks)
    record: dict[str, Any] = {"scene": name}
    for way in options.ways:
        settings, began = WAYS[way], time.process_time()
        result = plain if settings is None else refine_result(plain, masks, settings)
        seconds = time.process_time() - began
        record[way] = {"cpu_seconds": seconds, **judged(truth, true, result), **done_to(result)}
    return record


def judged(truth: SceneResult, true: TruePhysics, result: SceneResult) -> dict[str, Any]:
    """The figures of ``evaluate.py --physics``, and the box IoU where the scene stands."""
    record: dict[str, Any] = {"metrics": {}, "penalties": {}}
    record["objects"] = [{"id": item.object_id, "metrics": {}, "penalties": {}} for item in truth.objects]
    add_physics(record, true, normalise_scene(evaluation_scene(result)))
    return {
        "scene": record["metrics"] | record["penalties"],
        "objects": [each["metrics"] | each["penalties"] for each in record["objects"]],
        "iou": float(np.mean(box_overlaps(truth, result, "none")[1])),
    }


def done_to(result: SceneResult) -> dict[str, Any]:
    """What refinement did to the objects."""
    entries = result.settings.get("refinement", {}).get("objects", [])
    return {
        "completed": [entry["completed"] for entry in entries if "completed" in entry],
        "settled": [entry["settled"] for entry in entries if "settled" in entry],
    }


def table(records: Sequence[Mapping[str, Any]], ways: Sequence[str]) -> str:
    """What was measured, as a Markdown table."""
    objects = {way: [each for record in records for each in record[way]["objects"] if each] for way in ways}
    truth = np.mean([record[ways[0]]["scene"][STABLE_TRUTH] for record in records])
    rows = [
        ("scenes stable and upright", [scenes_mean(records, way, STABLE) for way in ways], "{:.0%}"),
        *(
            (title, [objects_mean(objects[way], name) for way in ways], form)
            for title, name, form in (
                ("objects that stay", "physics_stays", "{:.1%}"),
                ("objects that stand alone", "physics_stands_alone", "{:.1%}"),
                ("objects supported", "physics_supported", "{:.1%}"),
                ("drift, median metres", "physics_drift_m", "{:.3f}"),
                ("penetration, mean metres", "physics_penetration_m", "{:.4f}"),
            )
        ),
        ("objects with loose pieces", [loose_share(objects[way]) for way in ways], "{:.1%}"),
        ("box IoU", [np.mean([record[way]["iou"] for record in records]) for way in ways], "{:.3f}"),
        (
            "refinement, seconds of one core an object",
            [object_seconds(records, way) for way in ways],
            "{:.1f}",
        ),
    ]
    lines = [f"| figure | {' | '.join(ways)} |", "|---|" + "---:|" * len(ways)]
    lines += [
        f"| {title} | {' | '.join(form.format(value) for value in values)} |" for title, values, form in rows
    ]
    counts = (
        f"{len(records)} scenes, {len(objects[ways[0]])} objects; the true scenes are stable in {truth:.0%}"
    )
    return "\n".join([*lines, "", counts, *deeds(records, ways)])


def scenes_mean(records: Sequence[Mapping[str, Any]], way: str, name: str) -> float:
    """Mean of a figure over scenes."""
    return float(np.mean([record[way]["scene"].get(name, 0.0) for record in records]))


def objects_mean(objects: Sequence[Mapping[str, float]], name: str) -> float:
    """Mean of a figure over objects that have it; the median of drifts, which a rolling ball would decide."""
    values = [each[name] for each in objects if name in each]
    return float((np.median if name == "physics_drift_m" else np.mean)(values))


def object_seconds(records: Sequence[Mapping[str, Any]], way: str) -> float:
    """Seconds of one core that refinement takes for each object of the scenes."""
    count = sum(len(record[way]["objects"]) for record in records)
    return sum(record[way]["cpu_seconds"] for record in records) / count


def loose_share(objects: Sequence[Mapping[str, float]]) -> float:
    """Share of objects with a loose piece."""
    return float(np.mean([each.get("physics_loose_pieces", 0) > 0 for each in objects]))


def deeds(records: Sequence[Mapping[str, Any]], ways: Sequence[str]) -> list[str]:
    """Lines about what completion and settling did."""
    lines = []
    if "refined" in ways:
        done = [each for record in records for each in record["refined"]["completed"]]
        counts = {
            key: sum(each[key] for each in done)
            for key in ("pieces_joined", "pieces_dropped", "legs_added", "legs_plain")
        }
        words = ", ".join(f"{key} {count}" for key, count in counts.items())
        levelled = sum(each["levelled"] > 0 for each in done)
        lines.append(f"completed, of {len(done)} objects: {words}, undersides levelled {levelled}")
    if "settled" in ways:
        done = [each for record in records for each in record["settled"]["settled"]]
        kept = {reason: sum(each["kept"] == reason for each in done) for reason in ("falls over", "hangs")}
        turned = sum(each["turn_deg"] > 3 for each in done)
        lines.append(
            f"settled, of {len(done)} objects: {turned} ({turned / max(len(done), 1):.0%}) turned by more "
            f"than 3 degrees, kept: {kept}"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
