"""Measure what is found of a photo's camera, floor and scale, on scenes whose truth is known.

    python -m benchmarks.photo_camera --prediction DIR --truth DIR --images DIR --output results.json

For each scene the camera is fitted twice: to the true objects, where only the fit can be wrong, and to the
generated ones, as it is in use. With `--write-errors` the errors of the latter go into the file that scenes
state them from (`scenegen.export.photo_facts`). Low scenes are those that are seen from less than `--low`
degrees above. Finished scenes are kept beside the report under a fingerprint of their files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.placement_refinement import load_result
from scenegen.cli.parser import CommandParser
from scenegen.evaluation.loading import SceneFiles, find_scene_files
from scenegen.evaluation.records import RecordStore, records_path
from scenegen.evaluation.report import write_json
from scenegen.export.photo_facts import (
    CAMERA_HEIGHT,
    ELEVATION,
    ERRORS_FILE,
    FIELD_OF_VIEW,
    FLOOR,
    METRES_PER_UNIT,
    PhotoFacts,
)
from scenegen.geometry import SCALE, TRANSLATION
from scenegen.inputs.scene_folder import read_scene
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.camera_fit import fit_photo_camera
from scenegen.photo.mask_overlap import Sight
from scenegen.pipelines.result import SceneResult, placed_surface
from trellis_modules.files import atomic_write_text

_LOG = logging.getLogger("photo_camera")

_VERSION = 1  # raised when figures change their meaning

UNITS = {
    ELEVATION: "degrees",
    FIELD_OF_VIEW: "degrees",
    CAMERA_HEIGHT: "share of the height above the floor",
    FLOOR: "longest sides of the query",
    METRES_PER_UNIT: "share",
}
"""What the errors are in."""

Figures = dict[str, float]


def measure(prediction: SceneFiles, truth: SceneFiles, images: Path) -> dict[str, Figures]:
    """Figures of one scene: by "true" of true shapes, by "generated" of generated ones."""
    masks = dict(zip(*_numbered_masks(images)))
    true_result, camera, metres = _truth(truth)
    record: dict[str, Any] = {"elevation_deg": camera.direction_deg()[1]}
    shown = [item for item in true_result.objects if item.object_id in masks]
    surfaces = [placed_surface(item) for item in shown]
    known = [masks[item.object_id] for item in shown]
    record["true"] = _fitted(true_result, masks, true_result, camera, metres)
    record["true"]["modal_overlap_of_true_camera"] = float(Sight(surfaces, known).overlaps([camera]).mean())
    record["generated"] = _fitted(load_result(prediction), masks, true_result, camera, metres)
    return record


def _numbered_masks(folder: Path) -> tuple[Sequence[int], Sequence[np.ndarray]]:
    images = read_scene(folder)[0]
    return images.object_ids, images.masks


def _truth(files: SceneFiles) -> tuple[SceneResult, PhotoCamera, float]:
    """The true objects, the camera in their frame, and metres per unit of it."""
    raw = json.loads(files.poses.read_text(encoding="utf-8"))
    lens = np.array(raw["camera"]["intrinsics"])
    view = PhotoCamera(np.array(raw["camera"]["extrinsics"]), lens[0, 0], lens[0, 0] / lens[1, 1])
    return load_result(files), view, float(raw["query_size_m"])


def _fitted(
    result: SceneResult,
    masks: dict[int, np.ndarray],
    truth: SceneResult,
    camera: PhotoCamera,
    metres: float,
) -> Figures:
    """Fit the camera to a scene and compare what follows with the truth."""
    shown = [item for item in result.objects if item.mesh is not None and item.object_id in masks]
    start = time.process_time()
    surfaces = [placed_surface(item) for item in shown]
    found = fit_photo_camera(surfaces, [masks[item.object_id] for item in shown])
    seconds = time.process_time() - start
    facts, true_facts = (
        PhotoFacts.of(replace(each, camera=view)) for each, view in ((result, found), (truth, camera))
    )
    query = next(item.pose for item in truth.objects if item.object_id == result.query_id)
    unit = float(query[SCALE])  # of the result's frame, in units of the truth's
    true_floor = (true_facts.floor - float(query[TRANSLATION][1])) / unit
    height, true_height = facts.camera_height(), true_facts.camera_height()
    heights = height * facts.scale.metres_per_unit / (true_height * metres)
    return {
        "modal_overlap": found.modal_overlap,
        "mask_overlap": found.overlap,
        "cpu_seconds": seconds,
        ELEVATION: found.direction_deg()[1] - camera.direction_deg()[1],
        FIELD_OF_VIEW: math.degrees(2 * (math.atan(0.5 / found.focal) - math.atan(0.5 / camera.focal))),
        CAMERA_HEIGHT: heights - 1,
        FLOOR: facts.floor - true_floor,
        METRES_PER_UNIT: facts.scale.metres_per_unit / (metres * unit) - 1,
    }


def summarise(records: Sequence[dict[str, Any]], kind: str) -> dict[str, dict[str, float]]:
    """Means of overlaps and seconds; of errors the median, the 90th percentile, and the median with signs."""
    table: dict[str, dict[str, float]] = {}
    for name in records[0][kind]:
        values = np.array([record[kind][name] for record in records])
        if name in UNITS:
            away = np.abs(values)
            table[name] = {
                "median": float(np.median(away)),
                "p90": float(np.quantile(away, 0.9)),
                "bias": float(np.median(values)),
            }
        else:
            table[name] = {"mean": float(values.mean()), "max": float(values.max())}
    return table


def write_errors(table: dict[str, dict[str, float]], count: int, command: str) -> None:
    """Write the errors that scenes state."""
    figures = {
        name: {
            "unit": unit,
            "median": float(f"{table[name]['median']:.2g}"),
            "p90": float(f"{table[name]['p90']:.2g}"),
        }
        for name, unit in UNITS.items()
    }
    content = {"made_by": command, "model": "scenegen-small", "scenes": count, "figures": figures}
    atomic_write_text(ERRORS_FILE, json.dumps(content, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    options = _parser().parse_args(arguments)
    predicted, true = find_scene_files(options.prediction), find_scene_files(options.truth)
    ids = [scene_id for scene_id in predicted if scene_id in true][: options.limit]
    if not ids:
        _LOG.error("%s: expected scenes of %s, found none", options.prediction, options.truth)
        return 2
    records = []
    torch.set_num_threads(1)
    with RecordStore(records_path(options.output)) as store:
        for scene_id in tqdm(ids, unit="scene", disable=None):
            pair = predicted[scene_id], true[scene_id]
            key = _fingerprint(*pair)
            if (record := store.get(key)) is None:
                record = measure(*pair, options.images / scene_id)
                store.add(key, record)
            records.append(record)
    low = [record for record in records if record["elevation_deg"] < options.low]
    report = {
        name: {kind: summarise(chosen, kind) for kind in ("true", "generated")} | {"scenes": len(chosen)}
        for name, chosen in (("all", records), ("low", low))
        if chosen
    }
    write_json(options.output, report)
    print(json.dumps(report, indent=1))
    if options.write_errors:
        write_errors(report["all"]["generated"], len(records), "benchmarks/photo_camera.py --write-errors")
    return 0


def _fingerprint(*scenes: SceneFiles) -> str:
    digest = hashlib.sha256(str(_VERSION).encode())
    for files in scenes:
        for path in (files.scene, files.poses):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(__doc__, "python -m benchmarks.photo_camera")
    parser.add_argument("--prediction", type=Path, required=True, metavar="DIR", help="generated scenes")
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR", help="true scenes")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="photos and masks")
    parser.add_argument("--output", type=Path, required=True, metavar="JSON", help="report")
    parser.add_argument("--limit", type=int, help="only the first scenes")
    parser.add_argument(
        "--low", type=float, default=16.0, help="degrees, (%(default)s)"
    )
    parser.add_argument("--write-errors", action="store_true", help="keep the errors for what scenes state")
    return parser


if __name__ == "__main__":
    sys.exit(main())
