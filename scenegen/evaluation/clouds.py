"""Pairs of point clouds: nearest neighbours both ways, and iterated closest points.

Every transform maps the prediction onto the truth: x_truth = scale * R x_prediction + t.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from scenegen.evaluation.neighbours import Neighbours
from scenegen.evaluation.registration import IDENTITY, Similarity, fit_similarity, rms


@dataclass(frozen=True)
class Matches:
    """Nearest neighbours both ways between a transformed prediction (N points) and the truth (M points).

    Distances are Euclidean, in the units of the truth.
    """

    prediction_to_truth: np.ndarray  # (N,) distances
    truth_to_prediction: np.ndarray  # (M,) distances
    truth_index: np.ndarray  # (N,) nearest truth point of each predicted point
    prediction_index: np.ndarray  # (M,) nearest predicted point of each truth point

    @property
    def chamfer_parts(self) -> tuple[float, float]:
        """Mean squared distance from prediction to truth, and from truth to prediction."""
        return float(np.mean(self.prediction_to_truth**2)), float(np.mean(self.truth_to_prediction**2))

    @property
    def chamfer(self) -> float:
        """Sum of the two mean squared distances."""
        return sum(self.chamfer_parts)


class CloudPair:
    """A predicted and a true point cloud with one KD-tree each, shared by all measurements.

    A similarity keeps neighbours, so the tree of the untransformed prediction answers for every transform of
    it: the truth is moved the way back instead.
    """

    def __init__(self, prediction: np.ndarray, truth: np.ndarray):
        for name, cloud in (("prediction", prediction), ("truth", truth)):
            if cloud.ndim != 2 or cloud.shape[1] != 3 or len(cloud) == 0 or not np.isfinite(cloud).all():
                raise ValueError(
                    f"CloudPair: {name} must be finite points (N > 0, 3), got shape {cloud.shape}"
                )
        self.prediction = prediction
        self.truth = truth

    @cached_property
    def _prediction_neighbours(self) -> Neighbours:
        return Neighbours(self.prediction)

    @cached_property
    def _truth_neighbours(self) -> Neighbours:
        return Neighbours(self.truth)

    def match(self, transform: Similarity = IDENTITY) -> Matches:
        """Find the nearest neighbours both ways with the prediction moved by `transform`."""
        forward, truth_index = self._truth_neighbours.of(transform.apply(self.prediction))
        backward, prediction_index = self._prediction_neighbours.of(transform.apply_inverse(self.truth))
        return Matches(forward, transform.scale * backward, truth_index, prediction_index)

    def subsample(self, count: int, rng: np.random.Generator) -> CloudPair:
        """Draw at most `count` points of each cloud without repetition."""
        return CloudPair(_draw(self.prediction, count, rng), _draw(self.truth, count, rng))


def _draw(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    if len(points) <= count:
        return points
    # In their order, so that points that are near each other are so in memory.
    return points[np.sort(rng.choice(len(points), count, replace=False))]


def symmetric_icp(
    pair: CloudPair,
    start: Similarity = IDENTITY,
    max_iterations: int = 200,
    tolerance: float = 1e-4,
    with_scale: bool = False,
) -> Similarity:
    """Align by iterated closest points with the pairs of both directions.

    Each direction weighs the same, so that every iteration lowers the Chamfer distance itself. Arguments as
    in `filterreg`; `with_scale` fits a similarity.

    Source: P. Besl, N. McKay, A method for registration of 3-D shapes, PAMI 1992; both directions after
    Z. Zhang, Iterative point matching, IJCV 1994.
    """
    weights = np.concatenate([np.full(len(cloud), 1 / len(cloud)) for cloud in (pair.prediction, pair.truth)])
    transform, moved = start, start.apply(pair.prediction)
    for _ in range(max_iterations):
        matches = pair.match(transform)
        source = np.concatenate([pair.prediction, pair.prediction[matches.prediction_index]])
        target = np.concatenate([pair.truth[matches.truth_index], pair.truth])
        transform = fit_similarity(source, target, weights, with_scale)
        updated = transform.apply(pair.prediction)
        step, moved = rms(updated - moved), updated
        if step < tolerance:
            break
    return transform
