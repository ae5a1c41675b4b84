"""The protocol of the paper: files as they are, one alignment taken as it is, objects paired by their order.

What it leaves out stays out: a scene without a usable prediction, or with another number of objects than the
truth, has no figures. `scenegen.evaluation.comparison` has the corrected protocol, where such scenes count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scenegen.evaluation.alignment import Alignment, align, align_object
from scenegen.evaluation.clouds import CloudPair, Matches
from scenegen.evaluation.comparison import Figures
from scenegen.evaluation.glb import GlbError, read_glb
from scenegen.evaluation.loading import EvaluationError, ObjectMesh, sample_surface
from scenegen.evaluation.metrics import box_iou, chamfer_distances, f_score, normalise_object
from scenegen.evaluation.settings import EvaluationSettings
from trellis_modules.representations.mesh.triangle_arrays import triangle_areas


class LeftOut(ValueError):
    """A scene that the protocol does not count; the message says why."""


@dataclass(frozen=True)
class PaperFigures:
    """Figures of one scene.

    Attributes:
        scene: of the whole scene.
        objects: of each object, in the order of the file.
        alignment: of the scene; None where only objects are compared.
    """

    scene: Figures = field(default_factory=dict)
    objects: list[Figures] = field(default_factory=list)
    alignment: Alignment | None = None


def compare_as_paper(
    truth: Path, prediction: Path, settings: EvaluationSettings, seeds: tuple[tuple[int, ...], ...]
) -> PaperFigures:
    """Compare two scene files.

    Points are drawn on every mesh node as it stands in the file. The whole scene is aligned once. Boxes are
    those of the drawn points. Each object is mapped to [-0.95, 0.95] on every axis by itself and aligned
    once more.

    Args:
        truth, prediction: GLB files, both in the frame of the same object.
        settings: of the run.
        seeds: of the points of the prediction, of those of the truth, and of the alignments.

    Raises:
        LeftOut: the prediction cannot be read, or the numbers of objects differ.
        GlbError, EvaluationError: the truth cannot be used.
    """
    prediction_seed, truth_seed, alignment_seed = seeds
    true = _sampled(truth, settings.num_points, truth_seed)
    try:
        predicted = _sampled(prediction, settings.num_points, prediction_seed)
    except (GlbError, EvaluationError) as error:
        raise LeftOut(str(error)) from error
    if len(predicted) != len(true):
        raise LeftOut(
            f"{prediction}: expected {len(true)} mesh nodes as in the truth, got {len(predicted)}; "
            "the paper's protocol leaves such a scene out"
        )
    rng = np.random.default_rng(alignment_seed)
    figures, alignment = {}, None
    objects: list[Figures] = [{} for _ in true]
    if "scene" in settings.paper.levels:
        clouds = CloudPair(np.concatenate(predicted), np.concatenate(true))
        alignment = align(clouds, settings.paper.scene, rng, compare=False)
        figures = _distances("scene", alignment.aligned, settings.fscore_threshold)
        for entry, points, true_points in zip(objects, predicted, true, strict=True):
            entry["iou_bbox"] = box_iou(alignment.transform.apply(points), true_points)
    if "object" in settings.paper.levels:
        for entry, points, true_points in zip(objects, predicted, true, strict=True):
            pair = CloudPair(
                *(normalise_object(each, each, isotropic=False) for each in (points, true_points))
            )
            aligned = align_object(pair, settings.paper.objects, rng, compare=False).aligned
            entry |= _distances("object", aligned, settings.fscore_threshold)
    return PaperFigures(figures, objects, alignment)


def _sampled(path: Path, num_points: int, seed: tuple[int, ...]) -> list[np.ndarray]:
    """Points (num_points, 3) on each mesh node of a file, in its order."""
    clouds = []
    for index, mesh in enumerate(read_glb(path)):
        if not triangle_areas(mesh.vertices, mesh.faces).sum() > 0:
            raise EvaluationError(
                f"{path}: expected meshes with a surface, node {mesh.node_path[-1]!r} has no area; "
                "export the scene again"
            )
        item = ObjectMesh(index, mesh.vertices, mesh.faces)
        clouds.append(sample_surface(item, num_points, np.random.default_rng([*seed, index])))
    if not clouds:
        raise EvaluationError(f"{path}: expected at least one mesh, got none; export the scene again")
    return clouds


def _distances(level: str, matches: Matches, threshold: float) -> Figures:
    distances = {f"{level}_{name}": value for name, value in chamfer_distances(matches).items()}
    return distances | {f"{level}_fscore": f_score(matches, threshold)}
