"""Registration of point clouds: least squares of pairs, FilterReg and coherent point drift.

Every transform maps the prediction (source) onto the truth (target): x_truth = scale * R x_prediction + t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg.lapack import dgesdd
from scipy.spatial.distance import cdist

from scenegen.evaluation.kernel_means import KernelMeans

FINE_CELLS, OBJECT_CELLS, COARSE_CELLS = 1 / 8, 1 / 5, 1 / 3
"""Sides of FilterReg's cells in sigma. With the fine ones it ends within 0.1 degree of where all pairs of
points end; those of objects keep the time of a scene with many objects within bounds; the coarse ones are for
starts that are refined afterwards."""

_FINE_TOLERANCE = 0.1  # of the tolerance: steps become small long before the end is near
_LEAST_SIGMA2 = 1e-12


@dataclass(frozen=True)
class Similarity:
    """The map x -> scale * rotation @ x + translation of points (N, 3)."""

    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))  # (3, 3)
    translation: np.ndarray = field(default_factory=lambda: np.zeros(3))  # (3,)
    scale: float = 1.0

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Map points (N, 3)."""
        return self.scale * (points @ self.rotation.T) + self.translation

    def apply_inverse(self, points: np.ndarray) -> np.ndarray:
        """Map points (N, 3) the way back."""
        return (points - self.translation) @ self.rotation / self.scale

    def after(self, first: Similarity) -> Similarity:
        """The map that does `first`, and then this one."""
        return Similarity(
            self.rotation @ first.rotation, self.apply(first.translation), self.scale * first.scale
        )

    def inverse(self) -> Similarity:
        """The map back."""
        return Similarity(self.rotation.T, self.apply_inverse(np.zeros(3)), 1 / self.scale)


IDENTITY = Similarity()
"""Leaves points where they are."""


def fit_similarity(
    source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None, with_scale: bool = False
) -> Similarity:
    """Find the transform of least weighted squared error between paired points.

    Args:
        source, target: (N, 3) paired points.
        weights: (N,) not negative, or None for equal weights.
        with_scale: fit a scale too; otherwise it is 1.

    Source: S. Umeyama, Least-squares estimation of transformation parameters, PAMI 1991, eqs. 40-42.
    """
    weights = np.full(len(source), 1 / len(source)) if weights is None else weights / weights.sum()
    source_mean, target_mean = weights @ source, weights @ target
    source_zero, target_zero = source - source_mean, target - target_mean
    # einsum sums in a fixed order, BLAS need not: results must not depend on the number of threads.
    covariance = np.einsum("n,ni,nj->ij", weights, target_zero, source_zero)
    rotation = nearest_rotation(covariance)
    spread = weights @ np.square(source_zero).sum(axis=1)
    scale = float((rotation * covariance).sum() / spread) if with_scale and spread > 0 else 1.0
    return Similarity(rotation, target_mean - scale * rotation @ source_mean, scale)


def nearest_rotation(covariance: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) of least squares between centred pairs, from their sum w target source^T (3, 3)."""
    u, _, vt, _ = dgesdd(covariance)  # numpy's own call takes three times as long for so small a matrix
    rotation = u @ vt
    (a, b, c), (d, e, f), (g, h, i) = rotation.tolist()
    if a * (e * i - f * h) + b * (f * g - d * i) + c * (d * h - e * g) < 0:  # the determinant: mirrored
        rotation = u @ (vt * [[1.0], [1.0], [-1.0]])
    return rotation


def filterreg(
    source: np.ndarray,
    target: np.ndarray,
    start: Similarity = IDENTITY,
    max_iterations: int = 200,
    tolerance: float = 1e-4,
    cell_in_sigma: float = FINE_CELLS,
) -> Similarity:
    """Align `source` rigidly to `target` by FilterReg, point to point, with a fixed kernel width.

    E step: each moved source point is paired with the Gaussian-weighted mean of the target. M step: the rigid
    transform of least squares. sigma^2 is the mean squared distance between the clouds divided by 3, taken
    once; there is no outlier weight. So wide a kernel finds its way from afar but keeps a bias of some
    degrees. Where the paper filters on a permutohedral lattice, both clouds are replaced by the weighted
    means of cells, which uses every point and costs the same at any density: of coarse cells first, and from
    where these end of fine ones.

    Args:
        source, target: (N, 3) and (M, 3).
        start: where the iteration begins.
        max_iterations: iterations at most, for each size of cells.
        tolerance: rms move of the source between iterations that ends the search, in units of the points.
        cell_in_sigma: side of the fine cells; `COARSE_CELLS` leaves them out.

    Source: W. Gao, R. Tedrake, FilterReg, CVPR 2019, arXiv:1811.10136, sec. 3 and 4.
    """
    sigma2 = _mean_squared_distance(start.apply(source), target) / 3
    if sigma2 <= 0:
        return start
    transform = start
    for cell in sorted({COARSE_CELLS, cell_in_sigma}, reverse=True):
        end = tolerance if cell == COARSE_CELLS else tolerance * _FINE_TOLERANCE
        transform = _filterreg_of_cells(
            source, target, transform, sigma2, cell * np.sqrt(sigma2), max_iterations, end
        )
    return transform


def _filterreg_of_cells(
    source: np.ndarray,
    target: np.ndarray,
    start: Similarity,
    sigma2: float,
    cell: float,
    max_iterations: int,
    tolerance: float,
) -> Similarity:
    """FilterReg with a given sigma^2 between the means of the cells of two clouds."""
    points, weights = _cell_means(source, cell)
    target_points, target_weights = _cell_means(target, cell)
    means = KernelMeans(
        target_points, target_weights, sigma2, _farthest(points, weights, target_points, start)
    )
    shares = weights / weights.sum()
    middle = shares @ points
    centred = points - middle
    weighted = shares[:, None] * centred
    moved, transform = start.apply(points), start
    for _ in range(max_iterations):
        goals = means.at(moved)
        goal = shares @ goals
        rotation = nearest_rotation(np.einsum("ni,nj->ij", goals, weighted))
        updated = centred @ rotation.T + goal
        step, moved = rms(updated - moved), updated
        transform = Similarity(rotation, goal - rotation @ middle)
        if step < tolerance:
            break
    return transform


def _farthest(points: np.ndarray, weights: np.ndarray, target: np.ndarray, start: Similarity) -> float:
    """No point (N, 3) is farther from a target point (M, 3), at the start or wherever FilterReg moves it.

    A step takes the mean of the weighted points to one of target points, which is within the targets' reach.
    """
    middle, true_middle = np.average(points, axis=0, weights=weights), target.mean(axis=0)
    reach, true_reach = (
        float(np.linalg.norm(cloud - mean, axis=1).max())
        for cloud, mean in ((points, middle), (target, true_middle))
    )
    apart = float(np.linalg.norm(start.apply(middle) - true_middle))
    return reach + true_reach + max(apart, true_reach)


def rigid_cpd(
    source: np.ndarray, target: np.ndarray, max_iterations: int = 200, tolerance: float = 1e-4
) -> Similarity:
    """Align `source` to `target` with rotation, translation and scale by coherent point drift.

    No outlier weight; sigma^2 begins as the mean squared distance between the clouds divided by 3 and is
    updated in every iteration.

    Args:
        source, target: (N, 3) and (M, 3); time and memory grow with N * M.
        max_iterations: iterations at most.
        tolerance: rms move of the source between iterations that ends the search, in units of the points.

    Source: A. Myronenko, X. Song, Point Set Registration: Coherent Point Drift, PAMI 2010, fig. 2.
    """
    transform, moved = IDENTITY, source
    sigma2 = _mean_squared_distance(source, target) / 3
    for _ in range(max_iterations):
        if sigma2 <= _LEAST_SIGMA2:
            break
        squared = cdist(moved, target, "sqeuclidean")  # (N, M)
        kernel = np.exp((squared.min(axis=0) - squared) / (2 * sigma2))
        shares = kernel / kernel.sum(axis=0)  # how far each source point explains each target point
        weights = shares.sum(axis=1)
        means = shares @ target / np.maximum(weights, _LEAST_SIGMA2)[:, None]
        transform = fit_similarity(source, means, weights, with_scale=True)
        updated = transform.apply(source)
        spread = np.square(target).sum() - 2 * np.sum(updated * (shares @ target))
        sigma2 = float(spread + weights @ np.square(updated).sum(axis=1)) / (3 * len(target))
        step, moved = rms(updated - moved), updated
        if step < tolerance:
            break
    return transform


def _cell_means(points: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Replace points (N, 3) by the mean (K, 3) and the number (K,) of those in each cell of a cubic grid."""
    cells = np.floor((points - points.min(axis=0)) / cell).astype(np.int64)
    shape = cells.max(axis=0) + 1
    _, members, counts = np.unique(
        np.ravel_multi_index(cells.T, shape), return_inverse=True, return_counts=True
    )
    sums = np.stack([np.bincount(members, points[:, axis]) for axis in range(3)], axis=1)
    return sums / counts[:, None], counts.astype(np.float64)


def _mean_squared_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean squared distance over all pairs of points of two clouds."""
    return float(
        np.square(a).sum(axis=1).mean()
        + np.square(b).sum(axis=1).mean()
        - 2 * a.mean(axis=0) @ b.mean(axis=0)
    )


def rms(vectors: np.ndarray) -> float:
    """Root of the mean squared length of vectors (N, 3)."""
    return math.sqrt(np.einsum("ni,ni->", vectors, vectors) / len(vectors))
