"""Evaluating one scene: from the files of the truth and of the prediction to a record of figures.

A record is plain JSON. Under each protocol `metrics` hold what was measured; `penalties` hold the worst
values of what was not there to measure, so that "matched only" means metrics and "all" means both. The
paper's protocol has no penalties, and says under `left_out` why it does not count a scene.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safe_files.limits import MAX_GLB_BYTES
from safe_files.regular import UnreadableFile, read_bytes
from scenegen.evaluation.alignment import Alignment
from scenegen.evaluation.appearance import AppearanceSources
from scenegen.evaluation.arrangement import object_volume
from scenegen.evaluation.comparison import (
    Figures,
    compare_arrangements,
    compare_poses,
    compare_scenes,
    compare_shapes,
    sample_scene,
    worst_object_figures,
    worst_pose_figures,
    worst_scene_figures,
)
from scenegen.evaluation.loading import (
    EvaluationError,
    EvaluationScene,
    SceneFiles,
    ScenePoses,
    load_scene,
    normalise_scene,
    scene_normalisation,
)
from scenegen.evaluation.paper import LeftOut, compare_as_paper
from scenegen.evaluation.registration import IDENTITY, Similarity
from scenegen.evaluation.scene_appearance import add_appearance
from scenegen.evaluation.scene_files import FAILED, Prediction, ScenePair, load_prediction, load_truth_poses
from scenegen.evaluation.scene_physics import add_physics, true_physics
from scenegen.evaluation.settings import CORRECTED, PAPER, EvaluationSettings

RECORD_FORMAT = 3
"""Raised whenever figures change their meaning, so that older records are not resumed."""

# Of random numbers of one scene; equal meshes get equal points, so that their distance is 0.
_POINT_STREAM, _ALIGNMENT_STREAM = range(2)

RECORD_KEYS = frozenset(
    ("id", "status", "error", "warnings", "n_truth", "n_prediction", "n_matched", "protocols", "seconds")
)
"""Names that every record has."""

Record = dict[str, Any]


@dataclass
class _Measured:
    """Figures measured so far, of the scene and by true object index."""

    scene: Figures
    objects: dict[int, Figures]
    alignment: Alignment | None = None


def scene_seed(scene_id: str) -> int:
    """Return the seed of a scene: the first 8 bytes of the SHA-256 of its id, the same in every process."""
    return int.from_bytes(hashlib.sha256(scene_id.encode()).digest()[:8], "big")


def fingerprint(
    pair: ScenePair, settings: EvaluationSettings, sources: AppearanceSources | None = None
) -> str:
    """Return the SHA-256 over settings and file contents, under which a record is kept for resuming.

    Raises:
        EvaluationError: a file cannot be read.
    """
    digest = hashlib.sha256(
        json.dumps([RECORD_FORMAT, pair.scene_id, asdict(settings)], sort_keys=True).encode()
    )
    paths = [*_paths(pair.truth), *_paths(pair.prediction)]
    if settings.appearance and sources:
        paths += sources.camera_files(pair.truth)
    for path in paths:
        try:
            content = read_bytes(path, MAX_GLB_BYTES) if path else b""
        except UnreadableFile as error:
            raise EvaluationError(f"{path}: {error}; export it again") from error
        except OSError as error:
            raise EvaluationError(
                f"{path}: cannot be read ({error.strerror}); check its permissions"
            ) from error
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def _paths(files: SceneFiles | None) -> tuple[Path | None, Path | None]:
    return (files.scene, files.poses) if files else (None, None)


def evaluate_scene(
    pair: ScenePair, settings: EvaluationSettings, sources: AppearanceSources | None = None
) -> Record:
    """Compare one predicted scene with the true one by the protocols of the settings.

    Args:
        pair: of the scene.
        settings: of the run.
        sources: where cameras, photos and weights are; needed where the settings ask for appearance.

    Returns:
        A record with id, status ("evaluated", "missing" or "failed"), error, warnings, n_truth,
        n_prediction, n_matched, seconds, and protocols: for each its alignment, metrics, penalties, left_out,
        and objects: id, matched, metrics and penalties of each true object.

    Raises:
        GlbError, EvaluationError: the truth cannot be used. Faults of the prediction are recorded instead.
    """
    return _record(pair, settings, sources, fault=None)


def unmeasured_scene(
    pair: ScenePair, settings: EvaluationSettings, sources: AppearanceSources | None, fault: str
) -> Record:
    """The record of a scene that could not be compared, for a reason that lies outside its files."""
    return _record(pair, settings, sources, fault)


def _record(
    pair: ScenePair, settings: EvaluationSettings, sources: AppearanceSources | None, fault: str | None
) -> Record:
    began = time.perf_counter()
    read = load_scene(pair.truth.scene)
    truth = normalise_scene(read)
    truth_poses = load_truth_poses(pair, truth) if settings.with_poses else None
    if fault is None:
        prediction = load_prediction(pair, truth, with_poses=truth_poses is not None)
    else:
        prediction = Prediction(FAILED, error=fault)
    protocols: dict[str, Record] = {}
    moves: dict[str, Similarity] = {}  # of scene files, by protocol
    if PAPER in settings.protocols:
        protocols[PAPER], alignment = _paper_record(pair, truth, prediction, settings)
        moves[PAPER] = alignment.transform if alignment else IDENTITY
    if CORRECTED in settings.protocols:
        protocols[CORRECTED], alignment = _corrected_record(pair, truth, truth_poses, prediction, settings)
        aligned = (alignment.transform if alignment else IDENTITY).after(prediction.to_box)
        moves[CORRECTED] = scene_normalisation(read).inverse().after(aligned)
    warnings = [*truth.warnings, *prediction.warnings]
    if settings.physics:
        warnings += add_physics(protocols[CORRECTED], true_physics(truth), prediction.scene)
    if settings.appearance and sources:
        shown = pair.prediction.scene if prediction.scene else None
        warnings += add_appearance(protocols, pair.truth, shown, moves, settings.appearance, sources)
    return {
        "id": pair.scene_id,
        "status": prediction.status,
        "error": prediction.error,
        "warnings": warnings,
        "n_truth": len(truth.objects),
        "n_prediction": len(prediction.scene.objects) if prediction.scene else 0,
        "n_matched": len(truth.objects.keys() & prediction.scene.objects.keys()) if prediction.scene else 0,
        "protocols": protocols,
        "seconds": round(time.perf_counter() - began, 3),
    }


def _paper_record(
    pair: ScenePair, truth: EvaluationScene, prediction: Prediction, settings: EvaluationSettings
) -> tuple[Record, Alignment | None]:
    """Figures by the paper's protocol, or why it has none."""
    record: Record = {"alignment": None, "metrics": {}, "penalties": {}, "left_out": None, "objects": []}
    seed = scene_seed(pair.scene_id)
    seeds = tuple((seed, stream) for stream in (_POINT_STREAM, _POINT_STREAM, _ALIGNMENT_STREAM))
    if prediction.scene is None:
        return record | {"left_out": prediction.error}, None
    try:
        figures = compare_as_paper(pair.truth.scene, pair.prediction.scene, settings, seeds)
    except LeftOut as error:
        return record | {"left_out": str(error)}, None
    ids = list(truth.objects) if len(truth.objects) == len(figures.objects) else range(len(figures.objects))
    objects = [
        {"id": index, "matched": True, "metrics": metrics, "penalties": {}}
        for index, metrics in zip(ids, figures.objects, strict=True)
    ]
    found = {"alignment": _described(figures.alignment), "metrics": figures.scene, "objects": objects}
    return record | found, figures.alignment


def _corrected_record(
    pair: ScenePair,
    truth: EvaluationScene,
    truth_poses: ScenePoses | None,
    prediction: Prediction,
    settings: EvaluationSettings,
) -> tuple[Record, Alignment | None]:
    """Figures by the corrected protocol, with the worst values of what is missing."""
    measured = _Measured({}, {index: {} for index in truth.objects})
    if prediction.scene:
        _measure_geometry(pair.scene_id, truth, prediction.scene, settings, measured)
        missing = [item for index, item in truth.objects.items() if index not in prediction.scene.objects]
        measured.scene["collision_volume"] += sum(map(object_volume, missing))
    if truth_poses and prediction.poses:
        for index, figures in compare_poses(truth_poses, prediction.poses).items():
            measured.objects[index] |= figures
    record = {
        "alignment": _described(measured.alignment),
        "metrics": measured.scene,
        "penalties": {} if prediction.scene else worst_scene_figures(truth),
        "left_out": None,
        "objects": _object_entries(truth, truth_poses, prediction, measured),
    }
    return record, measured.alignment


def _described(alignment: Alignment | None) -> Record | None:
    if alignment is None:
        return None
    return {
        "method": alignment.method,
        "seconds": round(alignment.seconds, 3),
        "rotation": alignment.transform.rotation.tolist(),
        "translation": alignment.transform.translation.tolist(),
        "scale": alignment.transform.scale,
    }


def _measure_geometry(
    scene_id: str,
    truth: EvaluationScene,
    prediction: EvaluationScene,
    settings: EvaluationSettings,
    measured: _Measured,
) -> None:
    """Add the figures of scene and objects to `measured`."""
    seed = scene_seed(scene_id)
    true_samples = sample_scene(truth, settings.num_points, (seed, _POINT_STREAM))
    samples = sample_scene(prediction, settings.num_points, (seed, _POINT_STREAM))
    rng = np.random.default_rng((seed, _ALIGNMENT_STREAM))
    scene = compare_scenes(true_samples, samples, settings, rng)
    shapes = compare_shapes(true_samples, samples, settings, rng)
    arrangement, placed = compare_arrangements(true_samples, samples, scene.alignment.transform)
    measured.scene, measured.alignment = scene.scene | arrangement, scene.alignment
    for figures in (scene.boxes, shapes, placed):
        for index, values in figures.items():
            measured.objects[index] |= values


def _object_entries(
    truth: EvaluationScene, truth_poses: ScenePoses | None, prediction: Prediction, measured: _Measured
) -> list[Record]:
    entries = []
    for index, item in truth.objects.items():
        worst = worst_object_figures(item, truth)
        if truth_poses and index != truth_poses.query:
            worst |= worst_pose_figures(truth, truth_poses.query)
        metrics = measured.objects[index]
        entries.append(
            {
                "id": index,
                "matched": bool(prediction.scene and index in prediction.scene.objects),
                "metrics": metrics,
                "penalties": _absent(worst, metrics),
            }
        )
    return entries


def _absent(worst: Figures, measured: Figures) -> Figures:
    return {name: value for name, value in worst.items() if name not in measured}
