"""Evaluating one scene: from the files of the truth and of the prediction to a record of figures.

A record is plain JSON. `metrics` hold what was measured; `penalties` hold the worst values of what was not
there to measure, so that "matched only" means metrics and "all" means both.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from safe_files.limits import MAX_GLB_BYTES
from safe_files.regular import UnreadableFile, read_bytes
from scenegen.evaluation.comparison import (
    EvaluationSettings,
    Figures,
    compare_poses,
    compare_scenes,
    compare_shapes,
    sample_scene,
    worst_object_figures,
    worst_pose_figures,
    worst_scene_figures,
)
from scenegen.evaluation.glb import GlbError
from scenegen.evaluation.loading import (
    EvaluationError,
    EvaluationScene,
    SceneFiles,
    ScenePoses,
    load_poses,
    load_scene,
    normalise_scene,
)

RECORD_FORMAT = 1
"""Raised whenever figures change their meaning, so that older records are not resumed."""

EVALUATED, MISSING, FAILED = "evaluated", "missing", "failed"

_PREDICTION_STREAM, _TRUTH_STREAM, _ALIGNMENT_STREAM = range(3)  # of random numbers of one scene

RECORD_KEYS = frozenset(
    (
        "id",
        "status",
        "error",
        "warnings",
        "n_truth",
        "n_prediction",
        "alignment",
        "metrics",
        "penalties",
        "objects",
    )
)
"""Names that every record has."""

Record = dict[str, Any]


@dataclass(frozen=True)
class ScenePair:
    """The files of one true scene and of its prediction (None where there is none)."""

    truth: SceneFiles
    prediction: SceneFiles | None

    @property
    def scene_id(self) -> str:
        """The id of the true scene."""
        return self.truth.scene_id


@dataclass(frozen=True)
class _Prediction:
    """What could be read of a prediction; objects stand under the indices of the truth."""

    status: str
    scene: EvaluationScene | None = None
    poses: ScenePoses | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class _Measured:
    """Figures measured so far, of the scene and by true object index."""

    scene: Figures
    objects: dict[int, Figures]
    alignment: dict[str, Any] | None = None


def scene_seed(scene_id: str) -> int:
    """Return the seed of a scene: the first 8 bytes of the SHA-256 of its id, the same in every process."""
    return int.from_bytes(hashlib.sha256(scene_id.encode()).digest()[:8], "big")


def fingerprint(pair: ScenePair, settings: EvaluationSettings) -> str:
    """Return the SHA-256 over settings and file contents, under which a record is kept for resuming.

    Raises:
        EvaluationError: a file cannot be read.
    """
    digest = hashlib.sha256(
        json.dumps([RECORD_FORMAT, pair.scene_id, asdict(settings)], sort_keys=True).encode()
    )
    for files in (pair.truth, pair.prediction):
        for path in (files.scene, files.poses) if files else (None, None):
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


def evaluate_scene(pair: ScenePair, settings: EvaluationSettings) -> Record:
    """Compare one predicted scene with the true one.

    Returns:
        A record with id, status ("evaluated", "missing" or "failed"), error, warnings, n_truth,
        n_prediction, alignment, metrics, penalties, seconds, and objects: id, matched, metrics and penalties
        of each true object.

    Raises:
        GlbError, EvaluationError: the truth cannot be used. Faults of the prediction are recorded instead.
    """
    began = time.perf_counter()
    truth = normalise_scene(load_scene(pair.truth.scene))
    truth_poses = _load_truth_poses(pair, truth) if settings.with_poses else None
    prediction = _load_prediction(pair, truth, with_poses=truth_poses is not None)
    measured = _Measured({}, {index: {} for index in truth.objects})
    if prediction.scene:
        _measure_geometry(pair.scene_id, truth, prediction.scene, settings, measured)
    if truth_poses and prediction.poses:
        for index, figures in compare_poses(truth_poses, prediction.poses).items():
            measured.objects[index] |= figures
    return {
        "id": pair.scene_id,
        "status": prediction.status,
        "error": prediction.error,
        "warnings": [*truth.warnings, *prediction.warnings],
        "n_truth": len(truth.objects),
        "n_prediction": len(prediction.scene.objects) if prediction.scene else 0,
        "alignment": measured.alignment,
        "metrics": measured.scene,
        "penalties": _absent(worst_scene_figures(truth), measured.scene),
        "objects": _object_entries(truth, truth_poses, prediction, measured),
        "seconds": round(time.perf_counter() - began, 3),
    }


def _load_truth_poses(pair: ScenePair, truth: EvaluationScene) -> ScenePoses | None:
    if pair.truth.poses is None:
        return None
    poses = load_poses(pair.truth.poses)
    if poses.poses.keys() != truth.objects.keys():
        raise EvaluationError(
            f"{pair.truth.poses}: expected poses of the objects {list(truth.objects)} of "
            f"{pair.truth.scene.name}, got {sorted(poses.poses)}; write the truth again"
        )
    return poses


def _load_prediction(pair: ScenePair, truth: EvaluationScene, with_poses: bool) -> _Prediction:
    if pair.prediction is None:
        return _Prediction(MISSING, error=f"{pair.scene_id}: no prediction; counted as worst")
    try:
        scene = normalise_scene(load_scene(pair.prediction.scene))
    except (GlbError, EvaluationError) as error:
        return _Prediction(FAILED, error=str(error))
    scene, warnings = pair_objects(scene, truth, pair.scene_id)
    poses = None
    if with_poses:
        try:
            poses = _load_predicted_poses(pair.prediction)
        except EvaluationError as error:
            warnings = (*warnings, f"{error}; poses counted as worst")
    return _Prediction(EVALUATED, scene, poses, warnings=warnings)


def _load_predicted_poses(files: SceneFiles) -> ScenePoses:
    if files.poses is None:
        raise EvaluationError(f"{files.scene}: no pose file beside it")
    return load_poses(files.poses)


def pair_objects(
    prediction: EvaluationScene, truth: EvaluationScene, scene_id: str
) -> tuple[EvaluationScene, tuple[str, ...]]:
    """Give predicted objects the indices of the true ones.

    Objects are paired by the number in their `obj_<n>` names where both scenes have such names, else by rank.
    Objects beyond the true ones stay in the scene under indices of their own.

    Returns:
        The prediction under its new indices, and its warnings with those of the pairing.
    """
    warnings = list(prediction.warnings)
    paired = dict(prediction.objects)
    if not (prediction.named and truth.named):
        warnings.append(
            f"{scene_id}: expected nodes named obj_<n> in prediction and truth, got none in one of them; "
            f"objects are paired by their order"
        )
        spare = range(max(truth.objects) + 1, max(truth.objects) + 1 + len(paired))
        paired = dict(zip([*truth.objects, *spare], prediction.objects.values(), strict=False))
    missing = sorted(truth.objects.keys() - paired.keys())
    extra = sorted(paired.keys() - truth.objects.keys())
    if missing or extra:
        warnings.append(
            f"{scene_id}: expected {len(truth.objects)} objects, got {len(paired)}: missing {missing} "
            f"(counted as worst), not in the truth {extra} (kept in the scene's figures)"
        )
    return replace(prediction, objects=paired), tuple(warnings)


def _measure_geometry(
    scene_id: str,
    truth: EvaluationScene,
    prediction: EvaluationScene,
    settings: EvaluationSettings,
    measured: _Measured,
) -> None:
    """Add the figures of scene and objects to `measured`."""
    seed = scene_seed(scene_id)
    true_samples = sample_scene(truth, settings.num_points, (seed, _TRUTH_STREAM))
    samples = sample_scene(prediction, settings.num_points, (seed, _PREDICTION_STREAM))
    rng = np.random.default_rng((seed, _ALIGNMENT_STREAM))
    scene = compare_scenes(true_samples, samples, settings, rng)
    shapes = compare_shapes(true_samples, samples, settings, rng)
    measured.scene, measured.alignment = scene.scene, scene.alignment
    for index, figures in scene.boxes.items():
        measured.objects[index] |= figures | shapes[index]


def _object_entries(
    truth: EvaluationScene, truth_poses: ScenePoses | None, prediction: _Prediction, measured: _Measured
) -> list[Record]:
    entries = []
    for index, item in truth.objects.items():
        worst = worst_object_figures(item)
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
