"""Several samples of a scene's structures, what speaks for each of them, and the best one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scenegen.confidence.calibration import Calibration, SceneConfidence
from scenegen.confidence.signs import Signs, StructureCandidate, camera_signs, finite, object_signs
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.camera_fit import fit_photo_camera
from scenegen.photo.silhouettes import Surface
from scenegen.pipelines.decoding import occupancy_surface
from scenegen.pipelines.drafts import PRESENT, ObjectDraft


@dataclass(frozen=True)
class Candidate:
    """One sample of a scene.

    Attributes:
        drafts: all objects in the networks' order.
        generator: of its noise, for the stages that follow.
        seed: that the generator began with.
        is_placed: whether a network gave the poses.
        path: (steps, B, 8) poses as the last steps told them, in the frame of the drafts; None for a model
            without poses.
        told: (T, B, 8) poses told of the finished latents, see `sampling.told_poses`; None where nothing is
            judged.
        camera: of the photo, as the structures explain it; None before it was judged.
        signs: of each object; empty before it was judged.
        camera_signs: of the camera; likewise.
        confidence: None without a calibration.
    """

    drafts: list[ObjectDraft]
    generator: torch.Generator
    seed: int
    is_placed: bool
    path: Tensor | None = None
    told: Tensor | None = None
    camera: PhotoCamera | None = None
    signs: tuple[Signs, ...] = ()
    camera_signs: Signs | None = None
    confidence: SceneConfidence | None = None


@dataclass(frozen=True)
class Choice:
    """What was chosen of the samples of a scene.

    Attributes:
        drafts: all objects in the networks' order.
        seeds: of the sample that each object is of.
        camera: of the photo, if all objects are of one sample that was judged.
        confidence: None without a calibration.
    """

    drafts: list[ObjectDraft]
    seeds: tuple[int, ...]
    camera: PhotoCamera | None
    confidence: SceneConfidence | None


def judged(
    candidates: Sequence[Candidate],
    masks: Sequence[np.ndarray],
    calibration: Calibration | None,
    camera: PhotoCamera | None = None,
) -> list[Candidate]:
    """Candidates with their cameras, signs and, where a calibration is known, chances.

    Args:
        candidates: of one scene, with paths.
        masks: of the objects in the photo, (H, W) bool, in the order of the drafts.
        calibration: of the model.
        camera: of the photo where it is known; None fits one to each candidate.
    """
    surfaces = [[_surface(draft) for draft in candidate.drafts] for candidate in candidates]
    seen = [_seen(candidate, own) for candidate, own in zip(candidates, surfaces, strict=True)]
    cameras = [camera or _fitted(each, own, masks) for each, own in zip(seen, surfaces, strict=True)]
    signs = object_signs(seen, cameras, masks)
    found = []
    for candidate, fitted, objects in zip(candidates, cameras, signs, strict=True):
        own = tuple(finite(each) for each in objects)
        of_camera = finite(camera_signs(own, fitted))
        confidence = None
        if calibration is not None:
            confidence = calibration.judge(own, of_camera, is_single=len(candidates) == 1)
        found.append(
            replace(candidate, camera=fitted, signs=own, camera_signs=of_camera, confidence=confidence)
        )
    return found


def best_of(candidates: Sequence[Candidate], rows: Sequence[int]) -> Choice:
    """Of each object the best sample: by its chances, or where none are known by the cover of its mask.

    All samples place the objects in the frame of the query, and so objects of several go together.

    Args:
        candidates: at least one, judged where there are several.
        rows: of the objects that are chosen; the others are those of the first candidate.
    """
    first = candidates[0]
    if len(candidates) == 1:
        return Choice(first.drafts, (first.seed,) * len(first.drafts), first.camera, first.confidence)
    picked = [0] * len(first.drafts)
    for row in rows:
        picked[row] = int(np.argmax([_merit(candidate, row) for candidate in candidates]))
    main = candidates[max(set(picked), key=picked.count)]  # most objects are its
    chances = [candidates[number].confidence for number in picked]
    confidence = None
    if main.confidence is not None:
        own = tuple(each.objects[row] for row, each in enumerate(chances) if each is not None)
        confidence = SceneConfidence(own, main.confidence.camera)
    return Choice(
        [candidates[number].drafts[row] for row, number in enumerate(picked)],
        tuple(candidates[number].seed for number in picked),
        main.camera if len(set(picked)) == 1 else None,
        confidence,
    )


def _merit(candidate: Candidate, row: int) -> float:
    if candidate.confidence is not None:
        return candidate.confidence.objects[row].mean
    return candidate.signs[row]["overlap"]


def _seen(candidate: Candidate, surfaces: Sequence[Surface]) -> StructureCandidate:
    assert candidate.path is not None and candidate.told is not None, "only models with poses are judged"
    return StructureCandidate(
        torch.stack([each.logits for each in candidate.drafts]),
        torch.stack([each.pose for each in candidate.drafts]),
        candidate.path.float().cpu(),
        candidate.told.float().cpu(),
        [surface.vertices for surface in surfaces],
    )


def _fitted(
    seen: StructureCandidate, surfaces: Sequence[Surface], masks: Sequence[np.ndarray]
) -> PhotoCamera:
    """The camera under which the surfaces cover their masks, as far as any does."""
    shown = [row for row, surface in enumerate(surfaces) if len(surface.faces)]
    if not shown:
        height, width = masks[0].shape
        return PhotoCamera(np.eye(4), 1.0, height / width, modal_overlap=0.0)
    placed = [Surface(seen.placed(row), surfaces[row].faces) for row in shown]
    return fit_photo_camera(placed, [masks[row] for row in shown])


def _surface(draft: ObjectDraft) -> Surface:
    """The structure's surface, y up, in its own frame; without faces for an object that cannot be used."""
    if draft.problem not in (None, PRESENT):
        return Surface(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    return Surface(*occupancy_surface(draft.logits.numpy()))
