"""Signs of right and wrong objects, read from what the networks said and from the photo.

None of them needs the truth. What each is worth is learnt from scenes whose truth is known, see
`scenegen.confidence.fitting`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scenegen.geometry import (
    ROTATION,
    SCALE,
    TRANSLATION,
    apply_transform,
    pose_to_transform,
    rotation_angle_deg,
)
from scenegen.photo.camera import PhotoCamera, mask_cells

Signs = dict[str, float]
"""Numbers by name; larger need not be better."""

CELLS = 64
"""Cells across the photo on which silhouettes are compared."""

_UNDECIDED = 2.0  # logits nearer to 0 than this
_FAR = 5.0  # what a sign is cut to: distances in own sizes, logarithms


@dataclass(frozen=True)
class StructureCandidate:
    """One sample of a scene of B objects, before anything is made of it.

    Attributes:
        logits: (B, R, R, R) occupancy logits, object z-up frame.
        poses: (B, 8) usable poses in the query frame.
        path: (steps, B, 8) poses as the last steps of the sampler told them, that of the last one behind.
        told: (T, B, 8) poses that the head tells of the finished latents with some noise.
        clouds: for each object, points (N, 3) of its surface in its y-up frame; empty for one without.
    """

    logits: Tensor
    poses: Tensor
    path: Tensor
    told: Tensor
    clouds: Sequence[np.ndarray]

    def placed(self, row: int, turn_deg: float = 0.0) -> np.ndarray:
        """Surface points (N, 3) of an object in the query frame, turned in place about its vertical."""
        angle = np.deg2rad(turn_deg)
        sin, cos = np.sin(angle), np.cos(angle)
        turn = np.array(
            [[cos, 0.0, sin, 0.0], [0.0, 1.0, 0.0, 0.0], [-sin, 0.0, cos, 0.0], [0.0, 0.0, 0.0, 1.0]]
        )
        to_query = pose_to_transform(self.poses[row].double()).numpy()
        return apply_transform(to_query @ turn, self.clouds[row])


def object_signs(
    samples: Sequence[StructureCandidate], cameras: Sequence[PhotoCamera], masks: Sequence[np.ndarray]
) -> list[list[Signs]]:
    """Signs of every object in every sample of a scene.

    Args:
        samples: N samples of the same B objects, the query first.
        cameras: of the photo, fitted to each sample.
        masks: of the objects in the photo, (H, W) bool.

    Returns:
        For each sample, for each object, its signs. Those of the agreement between samples are there where
        N > 1.
    """
    cells = [mask_cells(mask, CELLS) for mask in masks]
    shared = [_mask_signs(row, masks, cells) for row in range(len(masks))]
    agreement = _agreement(samples) if len(samples) > 1 else None
    found = []
    for number, (sample, camera) in enumerate(zip(samples, cameras, strict=True)):
        signs = []
        for row in range(len(masks)):
            own = shared[row] | _pose_signs(sample, row) | _shape_signs(sample.logits[row])
            own |= _picture_signs(sample, row, camera, cells)
            signs.append(own if agreement is None else own | agreement[number][row])
        found.append(signs)
    return found


def camera_signs(objects: Sequence[Signs], camera: PhotoCamera) -> Signs:
    """Signs of the camera that was fitted to a sample, from the signs of its objects, the query first."""
    overlaps = [signs["overlap"] for signs in objects]
    azimuth, elevation = camera.direction_deg()
    del azimuth  # any direction is as good
    query = {f"query_{name}": value for name, value in objects[0].items() if name in _QUERY_SIGNS}
    means = {
        f"mean_{name}": float(np.mean([signs[name] for signs in objects]))
        for name in ("turn_told", "outside", "half_turn")
    }
    return (
        query
        | means
        | {
            "overlap": camera.modal_overlap or 0.0,
            "least_overlap": float(min(overlaps)),
            "elevation": abs(elevation - 20.0) / 20.0,
            "focal": abs(float(np.log(camera.focal))),
            "objects": float(len(objects)),
        }
    )


_QUERY_SIGNS = ("overlap", "half_turn", "quarter_turn", "undecided", "even", "shape_spread")


def _pose_signs(sample: StructureCandidate, row: int) -> Signs:
    """How far other poses that the head told lie from the one that was taken."""
    pose = sample.poses[row]
    late = sample.path[:-1, row] if len(sample.path) > 1 else sample.path[:, row]
    told = sample.told[:, row]
    return {
        "turn_late": _turns(late, pose).mean() / 90,
        "turn_told": _turns(told, pose).mean() / 90,
        "turn_told_most": _turns(told, pose).max() / 90,
        "place_late": _shifts(late, pose).mean(),
        "place_told": _shifts(told, pose).mean(),
        "size_told": _growths(told, pose).mean(),
        "size": float(np.log(max(float(pose[SCALE]), 1e-3))),
        "away": min(float(pose[TRANSLATION].norm()), _FAR),
        "lean": float(1 - _up(pose)),
    }


def _shape_signs(logits: Tensor) -> Signs:
    """How decided the structure is, and whether it looks the same after a turn about the vertical."""
    occupied = logits > 0
    count = max(int(occupied.sum()), 1)
    half = occupied.flip(0, 1)
    quarter = occupied.transpose(0, 1).flip(0)
    return {
        "undecided": min(float((logits.abs() < _UNDECIDED).sum()) / count, _FAR),
        "voxels": float(np.log(count / len(logits) ** 2)),
        "even": _iou(occupied, half),
        "even_quarter": _iou(occupied, quarter),
    }


def _mask_signs(row: int, masks: Sequence[np.ndarray], cells: Sequence[np.ndarray]) -> Signs:
    mask = masks[row]
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return {
        "area": float(np.log(max(mask.mean(), 1e-5))),
        "border": float(border.mean() > 0),
        "objects": float(np.log(len(masks))),
        "beside": _beside(row, cells),
    }


def _beside(row: int, cells: Sequence[np.ndarray]) -> float:
    """Share of the cells around a mask that other masks cover: they may hide a part of it."""
    own = cells[row]
    grown = np.zeros_like(own)
    for axis in (0, 1):
        for shift in (-1, 1):
            grown |= np.roll(own, shift, axis=axis)
    ring = grown & ~own
    others = np.any(
        [each for index, each in enumerate(cells) if index != row] or [np.zeros_like(own)], axis=0
    )
    return float((ring & others).sum() / max(ring.sum(), 1))


def _picture_signs(
    sample: StructureCandidate, row: int, camera: PhotoCamera, cells: Sequence[np.ndarray]
) -> Signs:
    """How the object, seen by the fitted camera, covers its mask, and whether other turns do it better."""
    others = np.zeros_like(cells[row])
    for index, each in enumerate(cells):
        if index != row:
            others |= each
    counts = ~others | cells[row]  # behind other masks the object may go on

    def seen(turn_deg: float = 0.0) -> np.ndarray:
        return camera.silhouette(sample.placed(row, turn_deg), cells[row].shape)

    if not len(sample.clouds[row]):
        return {"overlap": 0.0, "outside": 1.0, "missed": 1.0, "half_turn": 0.0, "quarter_turn": 0.0,
                "scene_overlap": camera.modal_overlap or 0.0}  # fmt: skip
    shown, mask = seen(), cells[row]
    overlap = _iou_cells(shown, mask, counts)
    quarters = [_iou_cells(seen(angle), mask, counts) for angle in (90.0, 270.0)]
    return {
        "overlap": overlap,
        "outside": float((shown & ~mask & ~others).sum() / max(shown.sum(), 1)),
        "missed": float((mask & ~shown).sum() / max(mask.sum(), 1)),
        "half_turn": _iou_cells(seen(180.0), mask, counts) - overlap,
        "quarter_turn": max(quarters) - overlap,
        "scene_overlap": camera.modal_overlap or 0.0,
    }


def _agreement(samples: Sequence[StructureCandidate]) -> list[list[Signs]]:
    """How far each object of each sample is from the same object of the other samples."""
    found = []
    for number, sample in enumerate(samples):
        others = [each for index, each in enumerate(samples) if index != number]
        signs = []
        for row, pose in enumerate(sample.poses):
            poses = torch.stack([each.poses[row] for each in others])
            shapes = [_iou(sample.logits[row] > 0, each.logits[row] > 0) for each in others]
            turns = _turns(poses, pose) / 90
            signs.append(
                {
                    "turn_spread": float(np.mean(turns)),
                    "turn_apart": float(np.mean(turns > 0.33)),
                    "place_spread": float(np.median(_shifts(poses, pose))),
                    "size_spread": float(np.median(_growths(poses, pose))),
                    "shape_spread": 1 - float(np.mean(shapes)),
                }
            )
        found.append(signs)
    return found


def _turns(poses: Tensor, pose: Tensor) -> np.ndarray:
    """Angles (N,) in degrees between poses (N, 8) and one (8,)."""
    return rotation_angle_deg(poses[:, ROTATION].double(), pose[ROTATION].double()).numpy()


def _shifts(poses: Tensor, pose: Tensor) -> np.ndarray:
    """Distances (N,) in sizes of the object, cut."""
    size = float(pose[SCALE].clamp_min(1e-3))
    return (poses[:, TRANSLATION] - pose[TRANSLATION]).norm(dim=1).div(size).clamp_max(_FAR).numpy()


def _growths(poses: Tensor, pose: Tensor) -> np.ndarray:
    """Logarithms (N,) of ratios of sizes, without sign, cut."""
    ratio = poses[:, SCALE].clamp_min(1e-3) / pose[SCALE].clamp_min(1e-3)
    return ratio.log().abs().clamp_max(_FAR).squeeze(1).numpy()


def _up(pose: Tensor) -> float:
    """Cosine between the object's vertical and that of the query frame."""
    return float(pose_to_transform(pose.double())[1, 1] / pose[SCALE].double().clamp_min(1e-6))


def _iou(one: Tensor, other: Tensor) -> float:
    return float((one & other).sum() / (one | other).sum().clamp_min(1))


def _iou_cells(shown: np.ndarray, mask: np.ndarray, counts: np.ndarray) -> float:
    shown = shown & counts
    return float((shown & mask).sum() / max((shown | mask).sum(), 1))


def finite(signs: Mapping[str, float]) -> Signs:
    """Signs as plain numbers; what is not finite counts as 0."""
    return {name: float(value) if np.isfinite(value) else 0.0 for name, value in signs.items()}
