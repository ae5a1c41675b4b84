"""The files of one scene and of its prediction, read and paired object by object."""

from __future__ import annotations

from dataclasses import dataclass, replace

from scenegen.evaluation.glb import GlbError
from scenegen.evaluation.loading import (
    EvaluationError,
    EvaluationScene,
    SceneFiles,
    ScenePoses,
    load_poses,
    load_scene,
    normalise_scene,
    scene_normalisation,
)
from scenegen.evaluation.registration import IDENTITY, Similarity

EVALUATED, MISSING, FAILED = "evaluated", "missing", "failed"


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
class Prediction:
    """What could be read of a prediction.

    Attributes:
        status: `EVALUATED`, `MISSING` or `FAILED`.
        scene: normalised, objects under the indices of the truth; None where it cannot be used.
        to_box: what normalised it.
        poses: None where they are not compared or cannot be used.
        error, warnings: one line each.
    """

    status: str
    scene: EvaluationScene | None = None
    to_box: Similarity = IDENTITY
    poses: ScenePoses | None = None
    error: str | None = None
    warnings: tuple[str, ...] = ()


def load_truth_poses(pair: ScenePair, truth: EvaluationScene) -> ScenePoses | None:
    """Read the poses of a true scene; None where it has no pose file.

    Raises:
        EvaluationError: the file cannot be used, or is of other objects.
    """
    if pair.truth.poses is None:
        return None
    poses = load_poses(pair.truth.poses)
    if poses.poses.keys() != truth.objects.keys():
        raise EvaluationError(
            f"{pair.truth.poses}: expected poses of the objects {list(truth.objects)} of "
            f"{pair.truth.scene.name}, got {sorted(poses.poses)}; write the truth again"
        )
    return poses


def load_prediction(pair: ScenePair, truth: EvaluationScene, with_poses: bool) -> Prediction:
    """Read a prediction and give its objects the indices of the true ones; its faults become part of it."""
    if pair.prediction is None:
        error = (
            f"{pair.scene_id}: no prediction; the corrected protocol counts it as worst, the paper's leaves "
            "it out"
        )
        return Prediction(MISSING, error=error)
    try:
        read = load_scene(pair.prediction.scene)
    except (GlbError, EvaluationError) as error:
        return Prediction(FAILED, error=str(error))
    scene, warnings = pair_objects(normalise_scene(read), truth, pair.scene_id)
    poses = None
    if with_poses:
        try:
            poses = _load_predicted_poses(pair.prediction)
        except EvaluationError as error:
            warnings = (*warnings, f"{error}; poses counted as worst")
    return Prediction(EVALUATED, scene, scene_normalisation(read), poses, warnings=warnings)


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
