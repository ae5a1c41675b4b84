"""Rigid alignment of point clouds: FilterReg, symmetric ICP and a coarse search over vertical turns.

Every transform maps the prediction onto the truth: x_truth = scale * R x_prediction + t. Alignment is rigid
(scale 1) except where `with_scale` asks for a similarity.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

_CELL_IN_SIGMA = 1 / 3  # widens the kernel by 1 % at most
_SEARCH_POINTS = 2048
_LEAF_SIZE = 64  # halves the time of queries from afar against scipy's 16
_COARSE_ITERATIONS = 20
_COARSE_YAWS_DEG = (0, 90, 180, 270)

_UNTOUCHED = "unaligned"

ALIGNMENT_MODES = ("best", "filterreg", "icp", "none")


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
    def _prediction_tree(self) -> cKDTree:
        return cKDTree(self.prediction, leafsize=_LEAF_SIZE)

    @cached_property
    def _truth_tree(self) -> cKDTree:
        return cKDTree(self.truth, leafsize=_LEAF_SIZE)

    def match(self, transform: Similarity = Similarity()) -> Matches:
        """Find the nearest neighbours both ways with the prediction moved by `transform`."""
        forward, truth_index = self._truth_tree.query(transform.apply(self.prediction))
        backward, prediction_index = self._prediction_tree.query(transform.apply_inverse(self.truth))
        return Matches(forward, transform.scale * backward, truth_index, prediction_index)

    def subsample(self, count: int, rng: np.random.Generator) -> CloudPair:
        """Draw at most `count` points of each cloud without repetition."""
        return CloudPair(_draw(self.prediction, count, rng), _draw(self.truth, count, rng))


def _draw(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return points if len(points) <= count else points[rng.choice(len(points), count, replace=False)]


@dataclass(frozen=True)
class Alignment:
    """An aligned pair of clouds.

    Attributes:
        transform: prediction to truth.
        method: how it was found, such as "filterreg+icp@90".
        unaligned, aligned: neighbours without and with the transform.
        seconds: time taken, with the two full matches.
    """

    transform: Similarity
    method: str
    unaligned: Matches
    aligned: Matches
    seconds: float


@dataclass(frozen=True)
class AlignmentSettings:
    """How clouds are aligned; iterations end when the points' rms move is below `tolerance` (cloud units)."""

    mode: str = "best"
    max_iterations: int = 200
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if self.mode not in ALIGNMENT_MODES:
            raise ValueError(f"alignment mode must be one of {', '.join(ALIGNMENT_MODES)}, got {self.mode!r}")


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
    u, singular, vt = np.linalg.svd(covariance)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    rotation = (u * signs) @ vt
    spread = weights @ np.square(source_zero).sum(axis=1)
    scale = float(singular @ signs / spread) if with_scale and spread > 0 else 1.0
    return Similarity(rotation, target_mean - scale * rotation @ source_mean, scale)


def filterreg(
    source: np.ndarray,
    target: np.ndarray,
    start: Similarity = Similarity(),
    max_iterations: int = 200,
    tolerance: float = 1e-4,
) -> Similarity:
    """Align `source` rigidly to `target` by FilterReg, point to point, with a fixed kernel width.

    E step: each moved source point is paired with the Gaussian-weighted mean of the target. M step: the rigid
    transform of least squares. sigma^2 is the mean squared distance between the clouds divided by 3, taken
    once; there is no outlier weight. So wide a kernel finds its way from afar but keeps a bias of some
    degrees. Where the paper filters on a permutohedral lattice, both clouds are replaced by the weighted
    means of cells of a third of sigma, which uses every point and costs the same at any density.

    Args:
        source, target: (N, 3) and (M, 3).
        start: where the iteration begins.
        max_iterations: iterations at most.
        tolerance: rms move of the source between iterations that ends the search, in units of the points.

    Source: W. Gao, R. Tedrake, FilterReg, CVPR 2019, arXiv:1811.10136, sec. 3 and 4.
    """
    sigma2 = _mean_squared_distance(start.apply(source), target) / 3
    if sigma2 <= 0:
        return start
    cell = _CELL_IN_SIGMA * np.sqrt(sigma2)
    points, weights = _cell_means(source, cell)
    target_points, target_weights = _cell_means(target, cell)
    log_weights = np.log(target_weights) - np.square(target_points).sum(axis=1) / (2 * sigma2)
    transform = start
    for _ in range(max_iterations):
        moved = transform.apply(points)
        logits = moved @ target_points.T / sigma2 + log_weights  # (N, M), up to a constant for each row
        kernel = np.exp(logits - logits.max(axis=1, keepdims=True))
        means = kernel @ target_points / kernel.sum(axis=1, keepdims=True)
        updated = fit_similarity(points, means, weights)
        step = updated.apply(points) - moved
        transform = updated
        if _rms(step) < tolerance:
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


def _rms(vectors: np.ndarray) -> float:
    return float(np.sqrt(np.square(vectors).sum(axis=1).mean()))


def symmetric_icp(
    pair: CloudPair,
    start: Similarity = Similarity(),
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
    transform = start
    for _ in range(max_iterations):
        matches = pair.match(transform)
        source = np.concatenate([pair.prediction, pair.prediction[matches.prediction_index]])
        target = np.concatenate([pair.truth[matches.truth_index], pair.truth])
        updated = fit_similarity(source, target, weights, with_scale)
        step = updated.apply(pair.prediction) - transform.apply(pair.prediction)
        transform = updated
        if _rms(step) < tolerance:
            break
    return transform


def align(pair: CloudPair, settings: AlignmentSettings, rng: np.random.Generator) -> Alignment:
    """Align a predicted scene to the true one.

    `filterreg` and `icp` run once from where the prediction stands and take the result as it is. `best`
    starts from four turns about the vertical axis through the origin, runs FilterReg followed by some ICP
    and ICP alone from each, refines the candidate of least Chamfer distance by ICP, and keeps the untouched
    prediction where that is nearer.

    Args:
        pair: clouds in one frame, y up, both centred near the origin.
        settings: mode and iteration limits.
        rng: draws the points on which ICP works.
    """
    began = time.perf_counter()
    if settings.mode == "best":
        transform, method = _search(pair, settings, rng)
    else:
        transform, method = _single_start(pair, settings, rng)
    return _measured(pair, transform, method, settings.mode == "best", began)


def align_object(pair: CloudPair, settings: AlignmentSettings, rng: np.random.Generator) -> Alignment:
    """Align one normalised object from where it stands; `best` keeps the nearer of FilterReg and none."""
    began = time.perf_counter()
    transform, method = _single_start(pair, settings, rng)
    return _measured(pair, transform, method, settings.mode == "best", began)


def _measured(
    pair: CloudPair, transform: Similarity, method: str, keep_better: bool, began: float
) -> Alignment:
    """Match the full clouds; with `keep_better` fall back to the untouched prediction where it is nearer."""
    unaligned = pair.match()
    aligned = unaligned if method == _UNTOUCHED else pair.match(transform)
    if keep_better and unaligned.chamfer <= aligned.chamfer:
        transform, method, aligned = Similarity(), _UNTOUCHED, unaligned
    return Alignment(transform, method, unaligned, aligned, time.perf_counter() - began)


def refine_scale(
    pair: CloudPair, start: Similarity, settings: AlignmentSettings, rng: np.random.Generator
) -> Similarity:
    """Refine a rigid alignment to a similarity by ICP; the start is kept where that is better."""
    small = pair.subsample(_SEARCH_POINTS, rng)
    refined = symmetric_icp(small, start, settings.max_iterations, settings.tolerance, with_scale=True)
    return refined if small.match(refined).chamfer < small.match(start).chamfer else start


def _single_start(
    pair: CloudPair, settings: AlignmentSettings, rng: np.random.Generator
) -> tuple[Similarity, str]:
    limits = {"max_iterations": settings.max_iterations, "tolerance": settings.tolerance}
    if settings.mode == "none":
        return Similarity(), _UNTOUCHED
    if settings.mode == "icp":
        return symmetric_icp(pair.subsample(_SEARCH_POINTS, rng), **limits), "icp"
    return filterreg(pair.prediction, pair.truth, **limits), "filterreg"


def _search(pair: CloudPair, settings: AlignmentSettings, rng: np.random.Generator) -> tuple[Similarity, str]:
    """Refine the best of several shortly iterated starts; return the transform and the name of its start."""
    limits = {"max_iterations": settings.max_iterations, "tolerance": settings.tolerance}
    short = limits | {"max_iterations": min(_COARSE_ITERATIONS, settings.max_iterations)}
    small = pair.subsample(_SEARCH_POINTS, rng)
    candidates = []
    for yaw_deg in _COARSE_YAWS_DEG:
        start = Similarity(rotation=_turn_about_y(yaw_deg))
        smooth = filterreg(pair.prediction, pair.truth, start, **limits)
        candidates.append((f"filterreg+icp@{yaw_deg}", symmetric_icp(small, smooth, **short)))
        candidates.append((f"icp@{yaw_deg}", symmetric_icp(small, start, **short)))
    method, transform = min(candidates, key=lambda candidate: small.match(candidate[1]).chamfer)
    return symmetric_icp(small, transform, **limits), method


def _turn_about_y(angle_deg: float) -> np.ndarray:
    """Rotation matrix (3, 3) about +y that takes +z towards +x."""
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
