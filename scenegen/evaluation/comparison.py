"""The corrected protocol: geometry of two normalised scenes, of each object, and poses.

Each function returns figures by name; a suffix tells the variant: `_unaligned` without any alignment,
`_similarity` after an alignment with scale, `_iso` with one factor for all axes of an object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scenegen.evaluation.alignment import Alignment, align, align_object, refine_scale
from scenegen.evaluation.arrangement import (
    best_pairing,
    collision_volume,
    diagonal,
    floor_heights,
    mean_closest_distance,
    object_volume,
    upright_box_iou,
)
from scenegen.evaluation.clouds import CloudPair, Matches
from scenegen.evaluation.loading import EvaluationScene, ObjectMesh, ScenePoses, joined, sample_surface
from scenegen.evaluation.metrics import (
    box_iou,
    chamfer_distances,
    f_score,
    normalise_object,
    relative_poses,
    symmetric_rotation_errors_deg,
    worst_chamfer,
)
from scenegen.evaluation.registration import IDENTITY, Similarity
from scenegen.evaluation.settings import EvaluationSettings
from scenegen.geometry import ROTATION, pose_differences

_WORST_ROTATION_DEG = 180.0
_WORST_SHARE = 0.0  # F-score and intersection over union
_SCENE_VARIANTS = ("", "_unaligned", "_similarity")
_SHAPE_VARIANTS = {"": False, "_iso": True}  # suffix: isotropic

Figures = dict[str, float]


@dataclass(frozen=True)
class SampledScene:
    """A normalised scene with the points drawn on the surface of each object, by object index."""

    scene: EvaluationScene
    points: dict[int, np.ndarray]

    @property
    def cloud(self) -> np.ndarray:
        """All points (N, 3) of the scene."""
        return np.concatenate(list(self.points.values()))


@dataclass(frozen=True)
class SceneFigures:
    """Figures of a scene and of its objects in it, and the alignment behind them."""

    scene: Figures
    boxes: dict[int, Figures]
    alignment: Alignment


def sample_scene(scene: EvaluationScene, num_points: int, seed: tuple[int, ...]) -> SampledScene:
    """Draw `num_points` on each object; the points of one object do not depend on the others."""
    return SampledScene(
        scene,
        {
            index: sample_surface(item, num_points, np.random.default_rng([*seed, index]))
            for index, item in scene.objects.items()
        },
    )


def compare_scenes(
    truth: SampledScene, prediction: SampledScene, settings: EvaluationSettings, rng: np.random.Generator
) -> SceneFigures:
    """Compare whole scenes, and objects with the same index in their places, aligned and not."""
    pair = CloudPair(prediction.cloud, truth.cloud)
    alignment = align(pair, settings.alignment, rng, surface=joined(prediction.scene.objects.values()))
    scaled = refine_scale(pair, alignment.transform, settings.alignment, rng)
    variants = [
        (alignment.transform, alignment.aligned),
        (IDENTITY, alignment.unaligned),
        (scaled, pair.match(scaled)),
    ]
    figures: Figures = {}
    boxes: dict[int, Figures] = {index: {} for index in truth.points if index in prediction.points}
    for suffix, (transform, matches) in zip(_SCENE_VARIANTS, variants, strict=True):
        figures |= _cloud_figures("scene", suffix, matches, settings.fscore_threshold)
        for index, box in boxes.items():
            moved = transform.apply(prediction.scene.objects[index].vertices)
            box[f"iou_bbox{suffix}"] = box_iou(moved, truth.scene.objects[index].vertices)
    return SceneFigures(figures, boxes, alignment)


def compare_arrangements(
    truth: SampledScene, prediction: SampledScene, transform: Similarity
) -> tuple[Figures, dict[int, Figures]]:
    """Compare how objects stand, with the prediction moved by `transform` where places are compared.

    Shared volume and heights above the floor are those of the prediction as it stands.

    Returns:
        Figures of the scene, and of each true object that has a partner.
    """
    moved = {index: transform.apply(item.vertices) for index, item in prediction.scene.objects.items()}
    true = {index: item.vertices for index, item in truth.scene.objects.items()}
    heights, true_heights = floor_heights(prediction.scene), floor_heights(truth.scene)
    figures: dict[int, Figures] = {
        index: {
            "iou_box_upright": upright_box_iou(moved[index], true[index]),
            "add_s": mean_closest_distance(
                transform.apply(prediction.points[index]), truth.points[index], true[index]
            ),
            "floor_gap": abs(heights[index] - true_heights[index]),
        }
        for index in true
        if index in moved
    }
    for index, (_, overlap) in best_pairing(true, moved).items():
        figures.setdefault(index, {})["iou_bbox_hungarian"] = overlap
    return {"collision_volume": collision_volume(prediction.scene.objects)}, figures


def compare_shapes(
    truth: SampledScene, prediction: SampledScene, settings: EvaluationSettings, rng: np.random.Generator
) -> dict[int, Figures]:
    """Compare the shapes of objects with the same index, each normalised to its own box."""
    figures: dict[int, Figures] = {}
    for index in truth.points:
        if index not in prediction.points:
            continue
        figures[index] = {}
        for suffix, isotropic in _SHAPE_VARIANTS.items():
            pair = CloudPair(
                normalise_object(
                    prediction.points[index], prediction.scene.objects[index].vertices, isotropic
                ),
                normalise_object(truth.points[index], truth.scene.objects[index].vertices, isotropic),
            )
            alignment = align_object(pair, settings.alignment, rng)
            for state, matches in (("", alignment.aligned), ("_unaligned", alignment.unaligned)):
                figures[index] |= _cloud_figures("object", suffix + state, matches, settings.fscore_threshold)
    return figures


def _cloud_figures(level: str, suffix: str, matches: Matches, threshold: float) -> Figures:
    distances = chamfer_distances(matches)
    figures = {f"{level}_cd{suffix}": distances["cd"], f"{level}_fscore{suffix}": f_score(matches, threshold)}
    if level == "scene":
        figures |= {f"scene_cd_1{suffix}": distances["cd_1"], f"scene_cd_2{suffix}": distances["cd_2"]}
    return figures


def compare_poses(truth: ScenePoses, prediction: ScenePoses) -> dict[int, Figures]:
    """Compare the poses of targets relative to the query of the truth.

    Returns:
        Figures of each target that both have; none when the prediction has no pose of the query.
    """
    indices = [index for index in sorted(truth.poses) if index != truth.query and index in prediction.poses]
    if not indices or truth.query not in prediction.poses:
        return {}
    predicted = relative_poses(prediction.poses, truth.query, indices)
    true = relative_poses(truth.poses, truth.query, indices)
    errors = pose_differences(predicted, true)
    errors["rotation_error_symmetric_deg"] = symmetric_rotation_errors_deg(
        predicted[:, ROTATION],
        true[:, ROTATION],
        [truth.symmetry[index] for index in indices],
        truth.symmetry[truth.query],
    )
    return {
        index: {name: float(values[row]) for name, values in errors.items()}
        for row, index in enumerate(indices)
    }


def worst_scene_figures(truth: EvaluationScene) -> Figures:
    """Figures of a scene that was not predicted: no point found, Chamfer distance of `worst_chamfer`.

    Its objects count as if each stood within another: they share their whole volume.
    """
    vertices = np.concatenate([item.vertices for item in truth.objects.values()])
    worst = worst_chamfer(vertices)
    figures: Figures = {"collision_volume": sum(map(object_volume, truth.objects.values()))}
    for suffix in _SCENE_VARIANTS:
        figures |= {
            f"scene_cd{suffix}": worst,
            f"scene_fscore{suffix}": _WORST_SHARE,
            f"scene_cd_1{suffix}": worst / 2,
            f"scene_cd_2{suffix}": worst / 2,
        }
    return figures


def worst_object_figures(item: ObjectMesh, truth: EvaluationScene) -> Figures:
    """Figures of an object that was not predicted: no overlap, no point found, `worst_chamfer`.

    Distances in place count the diagonal of the true scene's box, gaps to the floor its height.
    """
    everything = np.concatenate([other.vertices for other in truth.objects.values()])
    figures = {f"iou_bbox{suffix}": _WORST_SHARE for suffix in _SCENE_VARIANTS} | {
        "iou_box_upright": _WORST_SHARE,
        "iou_bbox_hungarian": _WORST_SHARE,
        "add_s": diagonal(everything) / diagonal(item.vertices),
        "floor_gap": float(np.ptp(everything[:, 1])),
    }
    for suffix, isotropic in _SHAPE_VARIANTS.items():
        worst = worst_chamfer(normalise_object(item.vertices, item.vertices, isotropic))
        for state in ("", "_unaligned"):
            figures |= {f"object_cd{suffix}{state}": worst, f"object_fscore{suffix}{state}": _WORST_SHARE}
    return figures


def worst_pose_figures(truth: EvaluationScene, query: int) -> Figures:
    """Pose errors of a target that was not predicted.

    Rotations count 180 degrees, translations the diagonal of the true scene's box in units of the query's
    longest side, and agreement of sizes 0. The ratio of sizes and its logarithm have no finite worst value
    and are figures of predicted objects only.
    """
    everything = np.concatenate([item.vertices for item in truth.objects.values()])
    query_side = np.ptp(truth.objects[query].vertices, axis=0).max()
    return {
        "rotation_error_deg": _WORST_ROTATION_DEG,
        "rotation_error_symmetric_deg": _WORST_ROTATION_DEG,
        "translation_error": float(diagonal(everything) / query_side),
        "size_agreement": _WORST_SHARE,
    }
