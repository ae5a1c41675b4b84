"""The pose term of scene flows: errors of predicted poses, and the running ratio that weighs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scenegen.trainers.objectives.losses import masked_mean
from trellis_modules.config import check_range
from trellis_modules.quaternions import normalize_quaternion

_SMALLEST_EXTENT = 0.01
_SMALLEST_SIZE = 0.25  # of an asset, in which errors of its scale are measured
_KEPT_RATIO = 0.99
_SMALLEST_TERM = 1e-8

RotationLoss = Literal["plain", "either_sign"]
ScaleLoss = Literal["plain", "relative"]


@dataclass(frozen=True)
class PoseTermSettings:
    """Weights of the parts, with the names and defaults of published configurations.

    Attributes:
        smooth_scale: width of the quadratic part of the errors.
        trans_weight, rot_weight, scale_weight: of translations, rotations and scales.
        position_weight_min_ratio, position_weight_max_ratio: bounds of the weight of all of them together.
        rotation_loss: "plain" compares quaternions as they are, which the released weights were trained with;
            "either_sign" knows that q and -q are one rotation.
    """

    smooth_scale: float = 0.1
    trans_weight: float = 2.0
    rot_weight: float = 3.0
    scale_weight: float = 2.0
    position_weight_min_ratio: float = 0.2
    position_weight_max_ratio: float = 1.0
    rotation_loss: RotationLoss = "plain"

    def __post_init__(self) -> None:
        check_range("trainer.smooth_scale", self.smooth_scale, 1e-6)
        lowest, highest = self.position_weight_min_ratio, self.position_weight_max_ratio
        check_range("trainer.position_weight_max_ratio", highest, lowest)


def split_pose(poses: Tensor) -> dict[str, Tensor]:
    """Translations (..., 3), rotations (..., 4 or 3) and scales (..., 1) of poses (..., 8 or 7)."""
    return {"translation": poses[..., :3], "rotation": poses[..., 3:-1], "scale": poses[..., -1:]}


def scene_extent(poses: Tensor, minimum: float = _SMALLEST_EXTENT) -> Tensor:
    """Sides (..., 1, 3) of the box around the assets of scenes (..., N, 8 or 7), cubes of their scale."""
    parts = split_pose(poses)
    half = parts["scale"] / 2
    high, low = parts["translation"] + half, parts["translation"] - half
    return (high.amax(-2, keepdim=True) - low.amin(-2, keepdim=True)).clamp(min=minimum)


def pose_errors(
    predicted: Tensor,
    target: Tensor,
    counted: Tensor,
    smooth: float,
    *,
    rotations: RotationLoss = "either_sign",
    scales: ScaleLoss = "relative",
) -> dict[str, Tensor]:
    """Smooth-L1 errors of the poses of target assets, each averaged over the counted ones.

    Translations are measured in scene extents.

    Args:
        predicted, target: (..., N, 8), or (..., N, 7) with angles, in the query frame.
        counted: (..., N) bool; the query and invisible assets are False.
        smooth: width of the quadratic part.
        rotations: "plain", or "either_sign": targets take the sign nearest to the predictions, q and -q being
            the same, and unit length. The prediction is drawn towards unit length rather than normalised,
            whose gradient grows without bound near zero.
        scales: "plain", or "relative": measured in the true scale (at least a quarter), so that a small query
            does not make a scene weigh more.
    """

    def mean_error(x: Tensor, y: Tensor) -> Tensor:
        return smooth * F.smooth_l1_loss(x / smooth, y / smooth, reduction="none").mean(-1)

    ours, true = split_pose(predicted), split_pose(target)
    extent = scene_extent(target)
    goal = true["rotation"]
    if rotations == "either_sign":
        goal = nearest_sign(goal, ours["rotation"])
    size = true["scale"].clamp(min=_SMALLEST_SIZE) if scales == "relative" else 1.0
    errors = {
        "translation": mean_error(ours["translation"] / extent, true["translation"] / extent),
        "rotation": mean_error(ours["rotation"], goal),
        "scale": mean_error(ours["scale"] / size, true["scale"] / size),
    }
    return {name: masked_mean(error, counted) for name, error in errors.items()}


class PoseWeights(Protocol):
    """Settings with a weight for each part of a pose."""

    trans_weight: float
    rot_weight: float
    scale_weight: float


def weighted_sum(errors: Mapping[str, Tensor], weights: PoseWeights) -> Tensor:
    """The parts of `pose_errors` as one term of a loss."""
    return (
        weights.trans_weight * errors["translation"]
        + weights.rot_weight * errors["rotation"]
        + weights.scale_weight * errors["scale"]
    )


def nearest_sign(target: Tensor, predicted: Tensor) -> Tensor:
    """Target quaternions (..., 4) of unit length, with the sign that is nearest to the predicted ones."""
    target = normalize_quaternion(target)
    return torch.where((predicted * target).sum(-1, keepdim=True) < 0, -target, target)


class PoseWeight(nn.Module):
    """The weight of the pose term: the running ratio of velocity error to pose term, within bounds.

    Within a step every batch uses the average of the steps before and its own ratio; `end_step` then keeps
    the average with the mean ratio of all batches of the step, on all processes the same. With one batch a
    step that is the published rule. The average is a buffer, so that saved states hold it; NaN before the
    first step.
    """

    def __init__(self, lowest: float, highest: float) -> None:
        super().__init__()
        self.lowest, self.highest = lowest, highest
        self.register_buffer("average", torch.tensor(float("nan")))

    def forward(self, velocity_error: Tensor, pose_term: Tensor) -> tuple[Tensor, Tensor]:
        """The weight, and the ratio of this batch; both without gradients."""
        ratio = velocity_error.detach().float() / (pose_term.detach().float() + _SMALLEST_TERM)
        return self._updated(ratio).clamp(self.lowest, self.highest), ratio

    @torch.no_grad()
    def end_step(self, ratio: Tensor) -> None:
        """Keep the mean ratio of a step; NaN, of a step without poses, changes nothing."""
        self.average.copy_(torch.where(ratio.isnan(), self.average, self._updated(ratio.to(self.average))))

    def _updated(self, ratio: Tensor) -> Tensor:
        average = _KEPT_RATIO * self.average + (1 - _KEPT_RATIO) * ratio
        return torch.where(self.average.isnan(), ratio, average)
