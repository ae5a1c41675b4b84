"""Figures of merit of a predicted scene: distances between clouds, boxes and poses.

Clouds are in normalised scene units (longest side of a scene 1.96) or normalised object units (side 1.9).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from scenegen.evaluation.clouds import Matches
from scenegen.geometry import (
    CONTINUOUS_SYMMETRY,
    relative_pose,
    rotation_angle_deg,
)
from trellis_modules.quaternions import (
    normalize_quaternion,
    quaternion_conjugate,
    quaternion_from_axis_angle,
    quaternion_multiply,
)

OBJECT_SIDE = 1.9
"""Side of the box, [-0.95, 0.95], to which objects are normalised before they are compared."""

_EPS = 1e-8


def chamfer_distances(matches: Matches) -> dict[str, float]:
    """Squared Chamfer distances: cd_1 prediction to truth, cd_2 truth to prediction, cd their sum.

    Unit: squared cloud units; lower is better.

    Source: H. Fan et al., A Point Set Generation Network, CVPR 2017, eq. 1 (with means instead of sums).
    """
    forward, backward = matches.chamfer_parts
    return {"cd": forward + backward, "cd_1": forward, "cd_2": backward}


def f_score(matches: Matches, threshold: float) -> float:
    """F-score in [0, 1]: harmonic mean of the shares of points nearer than `threshold` (strictly), both ways.

    Source: M. Tatarchenko et al., What Do Single-view 3D Reconstruction Networks Learn?, CVPR 2019, sec. 5.
    """
    precision = float(np.mean(matches.prediction_to_truth < threshold))
    recall = float(np.mean(matches.truth_to_prediction < threshold))
    return 2 * precision * recall / (precision + recall + _EPS)


def box_iou(vertices: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union, in [0, 1], of the axis-aligned boxes of two point sets (N, 3) and (M, 3)."""
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    other_low, other_high = other.min(axis=0), other.max(axis=0)
    overlap = np.prod(np.clip(np.minimum(high, other_high) - np.maximum(low, other_low), 0, None))
    union = np.prod(high - low) + np.prod(other_high - other_low) - overlap
    return float(overlap / (union + _EPS))


def worst_chamfer(vertices: np.ndarray) -> float:
    """Return the finite Chamfer distance that stands for "nothing predicted".

    It is the squared diagonal of the box of the true vertices (V, 3), once for each direction: no prediction
    inside the true box can be worse.
    """
    return float(2 * np.square(vertices.max(axis=0) - vertices.min(axis=0)).sum())


def normalise_object(points: np.ndarray, box: np.ndarray, isotropic: bool) -> np.ndarray:
    """Map points (N, 3) so that the box of `box` (V, 3) is centred with sides of 1.9.

    Each axis gets its own factor, or with `isotropic` all get that of the longest side, which keeps
    proportions. An axis without extent keeps its units.
    """
    low, high = box.min(axis=0), box.max(axis=0)
    sides = np.full(3, (high - low).max()) if isotropic else high - low
    factors = np.divide(OBJECT_SIDE, sides, out=np.ones(3), where=sides > 0)
    return factors * (points - (low + high) / 2)


def relative_poses(poses: dict[int, Tensor], query: int, indices: list[int]) -> Tensor:
    """Stack the poses (len(indices), 8) of objects relative to object `query`."""
    return relative_pose(torch.stack([poses[index] for index in indices]), poses[query])


def symmetric_rotation_errors_deg(
    predicted: Tensor, truth: Tensor, orders: list[int], query_order: int
) -> Tensor:
    """Rotation errors when turns that an object's look cannot tell apart count as equal.

    A symmetric target may be turned about its own y axis. A symmetric query may be turned too, which turns
    all targets of the scene at once: the one turn of the query with the least mean error counts.

    Args:
        predicted, truth: (T, 4) relative rotations, wxyz, T >= 1.
        orders: T orders of symmetry about the target's y axis; 0 = continuous.
        query_order: the same for the query.

    Returns:
        (T,) degrees in [0, 180].

    Source: symmetry-aware rotation error after T. Hodan et al., BOP, ECCV 2018, sec. 2 (sets of
    indistinguishable poses), restricted to the vertical axis.
    """
    if query_order == CONTINUOUS_SYMMETRY:
        query_turns = _candidate_query_turns(predicted, truth, orders)
    else:
        query_turns = _symmetry_turns(query_order, truth)
    errors = [
        _errors_up_to_symmetry(predicted, quaternion_multiply(turn.expand_as(truth), truth), orders)
        for turn in query_turns
    ]
    return min(errors, key=lambda error: float(error.mean()))


def _symmetry_turns(order: int, like: Tensor) -> Tensor:
    """The `order` turns (order, 4) about y of a discrete symmetry; the identity for a continuous one."""
    count = max(order, 1)
    angles = 2 * torch.pi * torch.arange(count, dtype=like.dtype, device=like.device) / count
    return quaternion_from_axis_angle(like.new_tensor([0.0, 1.0, 0.0]), angles)


def _errors_up_to_symmetry(predicted: Tensor, truth: Tensor, orders: list[int]) -> Tensor:
    errors = []
    for rotation, true_rotation, order in zip(predicted, truth, orders, strict=True):
        if order == CONTINUOUS_SYMMETRY:
            errors.append(_tilt_deg(rotation, true_rotation))
        else:
            turns = _symmetry_turns(order, truth)
            equivalent = quaternion_multiply(true_rotation.expand_as(turns), turns)
            errors.append(rotation_angle_deg(rotation.expand_as(turns), equivalent).min())
    return torch.stack(errors)


def _tilt_deg(rotation: Tensor, other: Tensor) -> Tensor:
    """Least angle between two rotations (4,) when either may be preceded by any turn about y."""
    w, x, y, z = quaternion_multiply(
        quaternion_conjugate(normalize_quaternion(rotation)), normalize_quaternion(other)
    ).unbind(-1)
    return torch.rad2deg(2 * torch.atan2(torch.hypot(x, z), torch.hypot(w, y)))


def _candidate_query_turns(predicted: Tensor, truth: Tensor, orders: list[int]) -> Tensor:
    """Turns (K, 4) of a continuous query, each best for one target in one of its equivalent rotations.

    For upright targets the mean error is piecewise linear in the turn, so that its minimum is among these.
    """
    candidates = []
    for rotation, true_rotation, order in zip(predicted, truth, orders, strict=True):
        turns = _symmetry_turns(order, truth)
        equivalent = quaternion_multiply(true_rotation.expand_as(turns), turns)
        difference = quaternion_multiply(rotation.expand_as(turns), quaternion_conjugate(equivalent))
        candidates.append(2 * torch.atan2(difference[..., 2], difference[..., 0]))
    return quaternion_from_axis_angle(truth.new_tensor([0.0, 1.0, 0.0]), torch.cat(candidates))
