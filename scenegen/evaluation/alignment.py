"""Alignment of scenes and objects: one FilterReg or ICP as it is, or a coarse search over vertical turns.

Every transform maps the prediction onto the truth: x_truth = scale * R x_prediction + t. Alignment is rigid
(scale 1) except where `with_scale` asks for a similarity, and by coherent point drift.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from scenegen.evaluation.registration import (
    COARSE_CELLS,
    FINE_CELLS,
    IDENTITY,
    OBJECT_CELLS,
    Similarity,
    filterreg,
    fit_similarity,
    rigid_cpd,
    rms,
)
from scenegen.geometry import SCENE_EXTENT

_SEARCH_POINTS = 2048
# Of every start, before all but the nearest ones are given up.
_FIRST_POINTS, _FIRST_ITERATIONS, _KEPT_STARTS = 768, 10, 4
_LEAF_SIZE = 64  # halves the time of queries from afar against scipy's 16
_COARSE_ITERATIONS = 20
_RESIZINGS = 2
_LAST_TOLERANCE = 0.03  # of the tolerance: where a scene ends must not depend on where it began
_FILTERREG_YAWS_DEG = (0, 90, 180, 270)
_ICP_YAWS_DEG = (0, 45, 90, 135, 180, 225, 270, 315)

_UNTOUCHED = "unaligned"

CPD_POINTS = 5000

ALIGNMENT_MODES = ("best", "filterreg", "icp", "cpd", "none")


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

    def match(self, transform: Similarity = IDENTITY) -> Matches:
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
        unaligned, aligned: neighbours without and with the transform; without it None where not asked for.
        seconds: time taken, with the two full matches.
    """

    transform: Similarity
    method: str
    unaligned: Matches | None
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
    transform = start
    for _ in range(max_iterations):
        matches = pair.match(transform)
        source = np.concatenate([pair.prediction, pair.prediction[matches.prediction_index]])
        target = np.concatenate([pair.truth[matches.truth_index], pair.truth])
        updated = fit_similarity(source, target, weights, with_scale)
        step = updated.apply(pair.prediction) - transform.apply(pair.prediction)
        transform = updated
        if rms(step) < tolerance:
            break
    return transform


def align(
    pair: CloudPair,
    settings: AlignmentSettings,
    rng: np.random.Generator,
    *,
    compare: bool = True,
    vertices: np.ndarray | None = None,
) -> Alignment:
    """Align a predicted scene to the true one.

    `filterreg`, `icp` and `cpd` run once from where the prediction stands and take the result as it is, `cpd`
    with a scale and on 5,000 points of each cloud. `best` starts from turns about the vertical axis through
    the origin, runs FilterReg followed by some ICP from four and ICP alone from eight of them, refines the
    candidates of least Chamfer distance by ICP, and keeps the untouched prediction where that is nearer. The
    size of the prediction is then that at which its box has the longest side of scene files along the axes
    of the truth, whatever axes its file has: how a scene stands in its file changes no figure.

    Args:
        pair: clouds in one frame, y up, both centred near the origin.
        settings: mode and iteration limits.
        rng: draws the points on which ICP works.
        compare: also find the neighbours of the untouched prediction, which `best` does in any case.
        vertices: (V, 3) of the prediction, whose box `best` keeps at that size; None keeps scale 1.
    """
    began = time.perf_counter()
    if settings.mode == "best":
        transform, method = _search(pair, settings, rng, vertices)
    else:
        transform, method = _single_start(pair, settings, rng, FINE_CELLS)
    return _measured(pair, transform, method, settings, compare, began)


def align_object(
    pair: CloudPair, settings: AlignmentSettings, rng: np.random.Generator, *, compare: bool = True
) -> Alignment:
    """Align one normalised object from where it stands; `best` keeps the nearer of FilterReg and none."""
    began = time.perf_counter()
    transform, method = _single_start(pair, settings, rng, OBJECT_CELLS)
    return _measured(pair, transform, method, settings, compare, began)


def _measured(
    pair: CloudPair,
    transform: Similarity,
    method: str,
    settings: AlignmentSettings,
    compare: bool,
    began: float,
) -> Alignment:
    """Match the full clouds; `best` falls back to the untouched prediction where it is nearer."""
    keep_better = settings.mode == "best"
    if not (keep_better or compare or method == _UNTOUCHED):
        return Alignment(transform, method, None, pair.match(transform), time.perf_counter() - began)
    unaligned = pair.match()
    aligned = unaligned if method == _UNTOUCHED else pair.match(transform)
    if keep_better and unaligned.chamfer <= aligned.chamfer:
        transform, method, aligned = IDENTITY, _UNTOUCHED, unaligned
    return Alignment(transform, method, unaligned, aligned, time.perf_counter() - began)


def refine_scale(
    pair: CloudPair, start: Similarity, settings: AlignmentSettings, rng: np.random.Generator
) -> Similarity:
    """Refine a rigid alignment to a similarity by ICP; the start is kept where that is better."""
    small = pair.subsample(_SEARCH_POINTS, rng)
    refined = symmetric_icp(small, start, settings.max_iterations, settings.tolerance, with_scale=True)
    return refined if small.match(refined).chamfer < small.match(start).chamfer else start


def _single_start(
    pair: CloudPair, settings: AlignmentSettings, rng: np.random.Generator, cells: float
) -> tuple[Similarity, str]:
    limits = {"max_iterations": settings.max_iterations, "tolerance": settings.tolerance}
    if settings.mode == "none":
        return IDENTITY, _UNTOUCHED
    if settings.mode == "icp":
        return symmetric_icp(pair.subsample(_SEARCH_POINTS, rng), **limits), "icp"
    if settings.mode == "cpd":
        few = pair.subsample(CPD_POINTS, rng)
        return rigid_cpd(few.prediction, few.truth, **limits), "cpd"
    cells = COARSE_CELLS if settings.mode == "best" else cells
    return filterreg(pair.prediction, pair.truth, **limits, cell_in_sigma=cells), "filterreg"


def _search(
    pair: CloudPair, settings: AlignmentSettings, rng: np.random.Generator, vertices: np.ndarray | None
) -> tuple[Similarity, str]:
    """Refine the best of several shortly iterated starts; return the transform and the name of its start."""
    limits = {"max_iterations": settings.max_iterations, "tolerance": settings.tolerance}
    first = limits | {"max_iterations": min(_FIRST_ITERATIONS, settings.max_iterations)}
    short = limits | {"max_iterations": min(_COARSE_ITERATIONS, settings.max_iterations)}
    small = pair.subsample(_SEARCH_POINTS, rng)
    few = small.subsample(_FIRST_POINTS, rng)
    starts = {}
    for yaw_deg in _ICP_YAWS_DEG:
        starts[f"icp@{yaw_deg}"] = Similarity(rotation=_turn_about_y(yaw_deg))
    for yaw_deg in _FILTERREG_YAWS_DEG:
        turned = Similarity(rotation=_turn_about_y(yaw_deg))
        starts[f"filterreg+icp@{yaw_deg}"] = filterreg(
            pair.prediction, pair.truth, turned, **limits, cell_in_sigma=COARSE_CELLS
        )
    candidates = {name: symmetric_icp(few, start, **first) for name, start in starts.items()}
    nearest = sorted(candidates, key=lambda name: few.match(candidates[name]).chamfer)[:_KEPT_STARTS]
    candidates = {name: symmetric_icp(small, candidates[name], **short) for name in nearest}
    if vertices is not None:
        candidates = {name: _resized(small, start, vertices, short) for name, start in candidates.items()}
    method = min(candidates, key=lambda name: small.match(candidates[name]).chamfer)
    fine = limits | {"tolerance": settings.tolerance * _LAST_TOLERANCE}
    if vertices is not None:
        return _resized(small, candidates[method], vertices, fine), method
    return symmetric_icp(small, candidates[method], **fine), method


def _resized(
    pair: CloudPair, start: Similarity, vertices: np.ndarray, limits: dict[str, float]
) -> Similarity:
    """Refine a transform by ICP, and the scale that gives the box of the vertices its longest side."""
    transform = start
    for _ in range(_RESIZINGS):
        sides = np.ptp(vertices @ transform.rotation.T, axis=0)
        scale = SCENE_EXTENT / float(sides.max())
        middle = transform.apply(np.zeros(3))  # of the prediction's box, about which it grows
        sized = CloudPair(scale * pair.prediction, pair.truth)
        rigid = symmetric_icp(sized, Similarity(transform.rotation, middle), **limits)
        transform = Similarity(rigid.rotation, rigid.translation, scale)
    return transform


def _turn_about_y(angle_deg: float) -> np.ndarray:
    """Rotation matrix (3, 3) about +y that takes +z towards +x."""
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
