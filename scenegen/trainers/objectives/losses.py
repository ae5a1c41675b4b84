"""Loss terms that objectives are made of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from scenegen.geometry import ROTATION, SCALE, TRANSLATION
from trellis_modules.quaternions import normalize_quaternion


def masked_mean(error: Tensor, weight: Tensor) -> Tensor:
    """Mean of ``error`` weighted by ``weight`` of the same shape; 0 where nothing counts."""
    return (error * weight).sum() / weight.sum().clamp(min=1e-6)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mean, exp(log_variance)) from N(0, 1), averaged over all elements."""
    return 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).mean()


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1) of each element, p = sigmoid(logits), averaged."""
    probability, target = logits.float().sigmoid().flatten(1), target.float().flatten(1)
    overlap = 2 * (probability * target).sum(1) + 1
    return (1 - overlap / (probability.sum(1) + target.sum(1) + 1)).mean()


def occupancy_iou(logits: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of {logits > 0} and a boolean target, averaged over the batch."""
    predicted, target = (logits > 0).flatten(1), target.bool().flatten(1)
    union = (predicted | target).sum(1).clamp(min=1)
    return ((predicted & target).sum(1) / union).mean()


def scene_extent(poses: Tensor, minimum: float = 0.01) -> Tensor:
    """Sides (..., 1, 3) of the box around the assets of scenes (..., N, 8), taken as cubes of their scale."""
    half = poses[..., SCALE] / 2
    high, low = poses[..., TRANSLATION] + half, poses[..., TRANSLATION] - half
    return (high.amax(-2, keepdim=True) - low.amin(-2, keepdim=True)).clamp(min=minimum)


def pose_errors(predicted: Tensor, target: Tensor, counted: Tensor, smooth: float) -> dict[str, Tensor]:
    """Smooth-L1 errors of the poses of target assets, each averaged over the counted ones.

    Translations are measured in scene extents and scales in the true scale (at least a quarter), so that a
    small query does not make a scene weigh more. Rotations are compared up to sign, q and -q being the same;
    the prediction is drawn towards unit length rather than normalised, whose gradient grows without bound
    near zero.

    Args:
        predicted, target: (..., N, 8) in the query frame.
        counted: (..., N) bool; the query and invisible assets are False.
        smooth: width of the quadratic part.
    """

    def mean_error(x: Tensor, y: Tensor) -> Tensor:
        return smooth * F.smooth_l1_loss(x / smooth, y / smooth, reduction="none").mean(-1)

    extent, size = scene_extent(target), target[..., SCALE].clamp(min=0.25)
    rotation = predicted[..., ROTATION]
    goal = normalize_quaternion(target[..., ROTATION])
    goal = torch.where((rotation * goal).sum(-1, keepdim=True) < 0, -goal, goal)
    errors = {
        "translation": mean_error(predicted[..., TRANSLATION] / extent, target[..., TRANSLATION] / extent),
        "rotation": mean_error(rotation, goal),
        "scale": mean_error(predicted[..., SCALE] / size, target[..., SCALE] / size),
    }
    return {name: masked_mean(error, counted) for name, error in errors.items()}
