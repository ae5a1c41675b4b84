"""Loss terms that objectives are made of."""

from __future__ import annotations

from torch import Tensor


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
