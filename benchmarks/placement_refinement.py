"""Measure placement refinement: penetrating volume and box overlap with the truth, before and after.

Refines a folder of predictions, as inference.py writes it, or the truth with disturbed poses:

* shifts of 0.1 longest sides of the query on each axis, turns of 8 degrees about the vertical, a lean of 3
  degrees and growth of 8 percent (one standard deviation each, normal; `--strength` multiplies them all);
  the query keeps its pose.

Writes `<output>/report.json`, and with `--write` also `<output>/before` (disturbed truth only) and
`<output>/refined`, folders of `<scene_id>/{scene.glb, poses.json}` without colours. Penetration is measured
on a finer grid than the refinement uses. Finished scenes are kept in `<output>/records.jsonl` under a
fingerprint of files and settings, so that a second run goes on where the first one stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from tqdm import tqdm

from scenegen.cli.parser import CommandParser
from scenegen.evaluation.alignment import AlignmentSettings
from scenegen.evaluation.comparison import compare_scenes, sample_scene
from scenegen.evaluation.loading import (
    EvaluationScene,
    ObjectMesh,
    SceneFiles,
    find_scene_files,
    normalise_scene,
)
from scenegen.evaluation.records import RecordStore
from scenegen.evaluation.scene import fingerprint
from scenegen.evaluation.scene_files import ScenePair
from scenegen.evaluation.settings import EvaluationSettings
from scenegen.export.scene_files import write_scene
from scenegen.geometry import place_yup
from scenegen.inputs.scene_folder import read_scene
from scenegen.photo.camera_fit import fit_photo_camera
from scenegen.photo.colouring import MIN_OVERLAP
from scenegen.pipelines.result import GeneratedObject, SceneResult, placed_surface
from scenegen.refinement.placement import refine_result, total_shared_volume
from scenegen.refinement.settings import RefinementSettings
from scenegen.refinement.solid import solid_of
from trellis_modules.quaternions import quaternion_from_axis_angle, quaternion_multiply

_LOG = logging.getLogger("placement_refinement")

MEASURING_RESOLUTION = 96
SHIFT, TURN_DEG, LEAN_DEG, GROWTH = 0.1, 8.0, 3.0, 0.08
CONTACT = 1e-5  # volume shared, in cubed longest sides of the query, below which objects merely touch
SAMPLED_POINTS = 384  # on each object; only the alignment needs them

_NO_LOGITS = torch.empty(0, 0, 0)


@dataclass(frozen=True)
class SceneFigures:
    """Figures of one scene; volumes in cubed longest sides of the query, one overlap per object."""

    scene_id: str
    penetration_before: float
    penetration_after: float
    iou_before: list[float]
    iou_after: list[float]
    iou_unaligned_before: list[float]
    iou_unaligned_after: list[float]
    photo_used: bool
    seconds: float


def load_result(files: SceneFiles) -> SceneResult:
    """Read a scene and its pose file back; colours are left out."""
    record = json.loads(files.poses.read_text(encoding="utf-8"))
    scene = trimesh.load(files.scene, process=False)
    objects = []
    for entry in record["objects"]:
        pose = torch.tensor([*entry["translation"], *entry["rotation_wxyz"], entry["scale"]])
        mesh = None
        if entry["node"] is not None:
            stored = scene.geometry[scene.graph[entry["node"]][1]]
            mesh = trimesh.Trimesh(stored.vertices, stored.faces, process=False)
        objects.append(GeneratedObject(entry["id"], pose, _NO_LOGITS, mesh))
    return SceneResult(tuple(objects), record["query"], settings={"source": str(files.scene)})


def disturb(result: SceneResult, strength: float, rng: np.random.Generator) -> SceneResult:
    """Change every pose but the query's at random."""
    objects = [
        item
        if item.object_id == result.query_id
        else replace(item, pose=_disturbed(item.pose, strength, rng))
        for item in result.objects
    ]
    return replace(result, objects=tuple(objects))


def _disturbed(pose: torch.Tensor, strength: float, rng: np.random.Generator) -> torch.Tensor:
    angle = rng.uniform(0, 2 * np.pi)
    level_axis = torch.tensor([np.cos(angle), 0.0, np.sin(angle)], dtype=torch.float32)
    lean = _turn(level_axis, rng.normal(0, strength * LEAN_DEG))
    turn = _turn(torch.tensor([0.0, 1.0, 0.0]), rng.normal(0, strength * TURN_DEG))
    rotation = quaternion_multiply(lean, quaternion_multiply(turn, pose[3:7]))
    shift = torch.tensor(rng.normal(0, strength * SHIFT, 3), dtype=torch.float32)
    growth = float(np.exp(rng.normal(0, strength * GROWTH)))
    return torch.cat((pose[:3] + shift, rotation, pose[7:] * growth))


def _turn(axis: torch.Tensor, angle_deg: float) -> torch.Tensor:
    return quaternion_from_axis_angle(axis, torch.tensor(np.deg2rad(angle_deg), dtype=torch.float32))


def with_camera(result: SceneResult, masks: Sequence[np.ndarray]) -> SceneResult:
    """Fit the photo's camera to the masks and keep it if it explains them, as the pipeline does."""
    shown = [row for row, item in enumerate(result.objects) if item.mesh is not None]
    surfaces = [placed_surface(result.objects[row]) for row in shown]
    view = fit_photo_camera(surfaces, [masks[row] for row in shown])
    return replace(result, camera=view if view.modal_overlap >= MIN_OVERLAP else None)


def penetration(results: Sequence[SceneResult]) -> list[float]:
    """Volume that pairs of objects share, on the measuring grid, for placements of the same meshes."""
    shown = [row for row, item in enumerate(results[0].objects) if item.mesh is not None]
    solids = [solid_of(results[0].objects[row].mesh, MEASURING_RESOLUTION) for row in shown]
    poses = [torch.stack([result.objects[row].pose for row in shown]) for result in results]
    return [total_shared_volume(solids, each) for each in poses]


def box_overlaps(result: SceneResult, truth: SceneResult, alignment: str) -> tuple[list[float], list[float]]:
    """IoU-B of every true object after alignment and without it; 0 for one that is missing."""
    settings = EvaluationSettings(SAMPLED_POINTS, alignment=AlignmentSettings(alignment))
    scenes = [normalise_scene(evaluation_scene(each)) for each in (truth, result)]
    samples = [sample_scene(scene, settings.num_points, (number,)) for number, scene in enumerate(scenes)]
    boxes = compare_scenes(*samples, settings, np.random.default_rng(0)).boxes
    rows = [boxes.get(index, {}) for index in scenes[0].objects]
    return tuple([row.get(name, 0.0) for row in rows] for name in ("iou_bbox", "iou_bbox_unaligned"))


def evaluation_scene(result: SceneResult) -> EvaluationScene:
    """The objects of a scene in their places, as the evaluation has them."""
    objects = {
        item.object_id: ObjectMesh(item.object_id, _placed(item), np.asarray(item.mesh.faces))
        for item in result.objects
        if item.mesh is not None
    }
    return EvaluationScene(objects, named=True)


def _placed(item: GeneratedObject) -> np.ndarray:
    vertices = torch.from_numpy(np.asarray(item.mesh.vertices))
    return place_yup(vertices, item.pose.double()).numpy()


def measure(
    scene_id: str, before: SceneResult, truth: SceneResult, options: argparse.Namespace
) -> SceneFigures:
    """Refine one scene and measure it; with ``--write``, write it."""
    masks = None
    if options.images is not None:
        masks = read_scene(options.images / scene_id)[0].masks
        before = with_camera(before, masks)
    start = time.perf_counter()
    after = refine_result(before, masks)
    seconds = time.perf_counter() - start
    if options.write:
        write_scene(after, options.output / "refined" / scene_id, ("glb", "poses"))
        if options.prediction is None:
            write_scene(before, options.output / "before" / scene_id, ("glb", "poses"))
    aligned_before, unaligned_before = box_overlaps(before, truth, options.alignment)
    aligned_after, unaligned_after = box_overlaps(after, truth, options.alignment)
    return SceneFigures(
        scene_id,
        *penetration([before, after]),
        aligned_before,
        aligned_after,
        unaligned_before,
        unaligned_after,
        before.camera is not None,
        seconds,
    )


def measure_pair(pair: ScenePair, options: argparse.Namespace) -> SceneFigures:
    """Measure a prediction, or the truth disturbed where there is none to measure."""
    truth = load_result(pair.truth)
    if pair.prediction is not None:
        return measure(pair.scene_id, load_result(pair.prediction), truth, options)
    seed = (options.disturb, zlib.crc32(pair.scene_id.encode()))
    before = disturb(truth, options.strength, np.random.default_rng(seed))
    return measure(pair.scene_id, before, truth, options)


def record_key(pair: ScenePair, options: argparse.Namespace) -> str:
    """Fingerprint of everything that a scene's figures depend on, but for the code."""
    settings = [
        asdict(RefinementSettings()),
        (MEASURING_RESOLUTION, SAMPLED_POINTS, SHIFT, TURN_DEG, LEAN_DEG, GROWTH),
        (options.disturb, options.strength, options.alignment, str(options.images)),
    ]
    files = fingerprint(pair, EvaluationSettings())
    return hashlib.sha256((files + json.dumps(settings)).encode()).hexdigest()


def summarise(figures: Sequence[SceneFigures]) -> dict[str, Any]:
    """Totals over scenes, means over objects."""

    def mean_over_objects(name: str) -> float:
        return float(np.mean([value for scene in figures for value in getattr(scene, name)]))

    before, after = (
        sum(getattr(scene, name) for scene in figures) for name in ("penetration_before", "penetration_after")
    )
    return {
        "scenes": len(figures),
        "objects": sum(len(scene.iou_before) for scene in figures),
        "penetration_before": before,
        "penetration_after": after,
        "penetration_cut": 1 - after / before if before else 0.0,
        "scenes_penetrating_before": sum(scene.penetration_before > CONTACT for scene in figures),
        "scenes_penetrating_after": sum(scene.penetration_after > CONTACT for scene in figures),
        "scenes_with_camera": sum(scene.photo_used for scene in figures),
        **{name: mean_over_objects(name) for name in SceneFigures.__annotations__ if name.startswith("iou")},
        "seconds_mean": float(np.mean([scene.seconds for scene in figures])),
        "seconds_max": max(scene.seconds for scene in figures),
    }


def format_table(summary: dict[str, Any]) -> str:
    """The summary as a Markdown table."""
    rows = [
        ("penetrating volume, sum", "penetration_before", "penetration_after", "{:.5f}"),
        ("scenes with penetration", "scenes_penetrating_before", "scenes_penetrating_after", "{}"),
        ("IoU-B", "iou_before", "iou_after", "{:.3f}"),
        ("IoU-B unaligned", "iou_unaligned_before", "iou_unaligned_after", "{:.3f}"),
    ]
    lines = ["| Figure | before | after |", "|---|---|---|"]
    for title, before, after, number in rows:
        lines.append(f"| {title} | {number.format(summary[before])} | {number.format(summary[after])} |")
    return "\n".join(
        [
            *lines,
            "",
            f"{summary['scenes']} scenes ({summary['scenes_with_camera']} with a camera), "
            f"{summary['objects']} objects; penetration cut by "
            f"{summary['penetration_cut']:.1%}; refinement {summary['seconds_mean']:.2f} s a scene, "
            f"at most {summary['seconds_max']:.2f} s",
        ]
    )


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = CommandParser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prediction", type=Path, metavar="DIR", help="folder of predictions")
    source.add_argument("--disturb", type=int, metavar="SEED", help="disturb the truth instead")
    parser.add_argument("--strength", type=float, default=1.0, help="of --disturb (%(default)s)")
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--images", type=Path, metavar="DIR", help="masked-image folders: fit the camera, use the masks"
    )
    parser.add_argument("--alignment", default="best", help="as of evaluate.py (%(default)s)")
    parser.add_argument("--limit", type=int, help="only the first scenes")
    parser.add_argument("--write", action="store_true", help="write the scenes too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Measure every true scene that has a prediction; exit status 1 when one is missing."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    options = parse_arguments(argv)
    truths = dict(list(find_scene_files(options.truth).items())[: options.limit])
    predictions = {} if options.prediction is None else find_scene_files(options.prediction)
    options.output.mkdir(parents=True, exist_ok=True)
    records = RecordStore(options.output / "records.jsonl")
    figures, missing = [], 0
    for scene_id, files in tqdm(truths.items(), unit="scene"):
        pair = ScenePair(files, predictions.get(scene_id))
        if options.prediction is not None and pair.prediction is None:
            _LOG.error("%s: expected a prediction in %s, found none", scene_id, options.prediction)
            missing += 1
            continue
        key = record_key(pair, options)
        if (record := records.get(key)) is None:
            record = asdict(measure_pair(pair, options))
            records.add(key, record)
        figures.append(SceneFigures(**record))
    if not figures:
        _LOG.error("%s: expected predictions of scenes in %s, found none", options.prediction, options.truth)
        return 1
    summary = summarise(figures)
    report = {"summary": summary, "scenes": [asdict(each) for each in figures]}
    (options.output / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(format_table(summary))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
