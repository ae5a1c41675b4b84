"""The nearest of many alignments of two scenes, found in the prediction's own frame.

The starts are laid out by the shapes of both scenes alone, so that the result does not depend on where the
prediction stands in its file, nor how it is turned there.
"""

from __future__ import annotations

import numpy as np

from scenegen.evaluation.clouds import CloudPair, symmetric_icp
from scenegen.evaluation.registration import COARSE_CELLS, Similarity, filterreg, rms
from scenegen.geometry import SCENE_EXTENT

SEARCH_POINTS = 2048
"""Of each cloud, on which ICP works."""

# Of every start, before all but the nearest ones are given up.
_FIRST_POINTS, _FIRST_ITERATIONS, _KEPT_STARTS = 768, 10, 4
_COARSE_ITERATIONS = 20
_RESIZINGS = 2
# Root mean square distances, in units of the truth, under which two candidates are on the way to one end.
_SAME_AT_FIRST, _SAME = 0.02, 0.002
_LAST_TOLERANCE = 0.03  # of the tolerance: where a scene ends must not depend on where it began
_FILTERREG_YAWS_DEG = (0, 90, 180, 270)
_ICP_YAWS_DEG = (0, 45, 90, 135, 180, 225, 270, 315)


def nearest_alignment(
    pair: CloudPair,
    rng: np.random.Generator,
    max_iterations: int,
    tolerance: float,
    vertices: np.ndarray | None = None,
) -> tuple[Similarity, str]:
    """Refine the best of several shortly iterated starts.

    FilterReg runs from four turns about the vertical, ICP from these ends and from eight turns of the nearest
    of them. ICP refines the candidates of least Chamfer distance.

    Args:
        pair: clouds, y up.
        rng: draws the points on which ICP works.
        max_iterations, tolerance: iterations end when the points' rms move is below the tolerance.
        vertices: (V, 3) of the prediction, which is given the size at which its box has the longest side of
            scene files along the axes of the truth; None keeps its size.

    Returns:
        The transform from prediction to truth, and the name of its start.
    """
    own = _own_frame(pair, with_scale=vertices is not None)
    posed = CloudPair(own.apply(pair.prediction), pair.truth)
    limits = {"max_iterations": max_iterations, "tolerance": tolerance}
    first = limits | {"max_iterations": min(_FIRST_ITERATIONS, max_iterations)}
    short = limits | {"max_iterations": min(_COARSE_ITERATIONS, max_iterations)}
    small = posed.subsample(SEARCH_POINTS, rng)
    few = small.subsample(_FIRST_POINTS, rng)
    candidates = {
        name: symmetric_icp(few, start, **first) for name, start in _starts(posed, few, limits).items()
    }
    nearest = sorted(candidates, key=lambda name: few.match(candidates[name]).chamfer)[:_KEPT_STARTS]
    candidates = _distinct({name: candidates[name] for name in nearest}, few.prediction, _SAME_AT_FIRST)
    candidates = {name: symmetric_icp(small, start, **short) for name, start in candidates.items()}
    moved = None if vertices is None else own.apply(vertices)
    if moved is not None:
        candidates = _distinct(candidates, few.prediction, _SAME)
        candidates = {name: _resized(small, start, moved, short) for name, start in candidates.items()}
    method = min(candidates, key=lambda name: small.match(candidates[name]).chamfer)
    fine = limits | {"tolerance": tolerance * _LAST_TOLERANCE}
    if moved is None:
        found = symmetric_icp(small, candidates[method], **fine)
    else:
        found = _resized(small, candidates[method], moved, fine)
    return found.after(own), method


def _own_frame(pair: CloudPair, with_scale: bool) -> Similarity:
    """Take the prediction to its own frame: centred at its mean, its longest extent in plan along x.

    With `with_scale` its points lie as far from their mean as those of the truth do.
    """
    mean, true_mean = pair.prediction.mean(axis=0), pair.truth.mean(axis=0)
    spread = rms(pair.prediction - mean)
    scale = rms(pair.truth - true_mean) / spread if with_scale and spread > 0 else 1.0
    rotation = _turn_about_y(-_heading_deg(pair.prediction - mean))
    return Similarity(rotation, -scale * rotation @ mean, scale)


def _heading_deg(centred: np.ndarray) -> float:
    """Turn about y that takes +x to the longest extent in plan of points (N, 3), up to half a turn."""
    x, z = centred[:, 0], centred[:, 2]
    return float(np.rad2deg(np.arctan2(-2 * (x @ z), x @ x - z @ z) / 2))


def _starts(pair: CloudPair, few: CloudPair, limits: dict[str, float]) -> dict[str, Similarity]:
    """Where ICP begins, by name; the prediction is in its own frame."""
    true_mean = pair.truth.mean(axis=0)
    heading = _heading_deg(pair.truth - true_mean)
    ends = {
        f"filterreg+icp@{yaw_deg}": filterreg(
            pair.prediction,
            pair.truth,
            Similarity(_turn_about_y(heading + yaw_deg), true_mean),
            **limits,
            cell_in_sigma=COARSE_CELLS,
        )
        for yaw_deg in _FILTERREG_YAWS_DEG
    }
    level = min(ends.values(), key=lambda end: few.match(end).chamfer)
    turned = {
        f"icp@{yaw_deg}": Similarity(_turn_about_y(yaw_deg) @ level.rotation, level.translation)
        for yaw_deg in _ICP_YAWS_DEG
    }
    return ends | turned


def _distinct(
    candidates: dict[str, Similarity], points: np.ndarray, distance: float
) -> dict[str, Similarity]:
    """The candidates without those that move points (N, 3) to where an earlier one does."""
    kept: dict[str, Similarity] = {}
    for name, candidate in candidates.items():
        moved = candidate.apply(points)
        if all(rms(moved - other.apply(points)) > distance for other in kept.values()):
            kept[name] = candidate
    return kept


def _resized(
    pair: CloudPair, start: Similarity, vertices: np.ndarray, limits: dict[str, float]
) -> Similarity:
    """Refine a transform by ICP, and the scale that gives the box of the vertices its longest side."""
    transform = start
    for _ in range(_RESIZINGS):
        sides = np.ptp(vertices @ transform.rotation.T, axis=0)
        scale = SCENE_EXTENT / float(sides.max())
        middle = transform.apply(np.zeros(3))  # of the prediction's points, about which it grows
        sized = CloudPair(scale * pair.prediction, pair.truth)
        rigid = symmetric_icp(sized, Similarity(transform.rotation, middle), **limits)
        transform = Similarity(rigid.rotation, rigid.translation, scale)
    return transform


def _turn_about_y(angle_deg: float) -> np.ndarray:
    """Rotation matrix (3, 3) about +y that takes +z towards +x."""
    cosine, sine = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
