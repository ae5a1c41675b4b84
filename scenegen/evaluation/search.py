"""The nearest of many alignments of two scenes, found in the prediction's own frame.

The starts are laid out by the shapes of both scenes alone, so that the result does not depend on where the
prediction stands in its file, nor how it is turned or tilted there.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from scenegen.evaluation.clouds import CloudPair, symmetric_icp
from scenegen.evaluation.main_axes import main_axes
from scenegen.evaluation.registration import Similarity, rms
from scenegen.geometry import SCENE_EXTENT

SEARCH_POINTS = 2048
"""Of each cloud, on which ICP ends."""

# Of every start, before all but the nearest ones are given up: points, iterations, and how many go on.
_ROUNDS = ((256, 4, 12), (512, 10, 5))
_COARSE_POINTS, _COARSE_ITERATIONS = 1024, 20
_RESIZINGS = 2
# Root mean square distances, in units of the truth, under which two candidates are on the way to one end.
_SAME_AT_FIRST, _SAME = 0.02, 0.002
_LAST_TOLERANCE = 0.03  # of the tolerance: where a scene ends must not depend on where it began
_HALF_WAY_DEG = 45.0  # between the quarter turns that lay one set of axes on another


def nearest_alignment(
    pair: CloudPair,
    rng: np.random.Generator,
    max_iterations: int,
    tolerance: float,
    surface: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[Similarity, str]:
    """Refine the best of many shortly iterated starts.

    Each start lays the main axes of the prediction on the vertical and on the axes that the truth has seen
    from above, or half-way between those: any axis upright, in eight turns. ICP brings them nearer, and only
    those of least Chamfer distance go on with more points and iterations.

    Args:
        pair: clouds; the truth has y up.
        rng: draws the points on which ICP works.
        max_iterations, tolerance: iterations end when the points' rms move is below the tolerance.
        surface: vertices (V, 3) and faces (F, 3) of the prediction, which is given the size at which its box
            has the longest side of scene files along the axes of the truth; None keeps its size, and takes
            the axes of its file for its main axes.

    Returns:
        The transform from prediction to truth, and the name of its start.
    """
    own = _own_frame(pair, surface)
    posed = CloudPair(own.apply(pair.prediction), pair.truth)
    limits = {"max_iterations": max_iterations, "tolerance": tolerance}
    short = limits | {"max_iterations": min(_COARSE_ITERATIONS, max_iterations)}
    small = posed.subsample(SEARCH_POINTS, rng)
    candidates = _starts(pair.truth)
    for points, iterations, kept in _ROUNDS:
        few = small.subsample(points, rng)
        first = limits | {"max_iterations": min(iterations, max_iterations)}
        candidates = {name: symmetric_icp(few, start, **first) for name, start in candidates.items()}
        candidates = _nearest_distinct(candidates, few, kept)
    coarse = small.subsample(_COARSE_POINTS, rng)
    candidates = {name: symmetric_icp(coarse, start, **short) for name, start in candidates.items()}
    vertices = None if surface is None else own.apply(surface[0])
    if vertices is not None:
        candidates = _nearest_distinct(candidates, coarse, len(candidates), _SAME)
        candidates = {name: _resized(coarse, start, vertices, short) for name, start in candidates.items()}
    method = min(candidates, key=lambda name: small.match(candidates[name]).chamfer)
    fine = limits | {"tolerance": tolerance * _LAST_TOLERANCE}
    if vertices is None:
        found = symmetric_icp(small, candidates[method], **fine)
    else:
        found = _resized(small, candidates[method], vertices, fine)
    return found.after(own), method


def _own_frame(pair: CloudPair, surface: tuple[np.ndarray, np.ndarray] | None) -> Similarity:
    """Take the prediction to its own frame: centred at its mean, its main axes along x, y, z.

    With a surface its points lie as far from their mean as those of the truth do.
    """
    mean = pair.prediction.mean(axis=0)
    if surface is None:
        return Similarity(np.eye(3), -mean)
    spread = rms(pair.prediction - mean)
    scale = rms(pair.truth - pair.truth.mean(axis=0)) / spread if spread > 0 else 1.0
    rotation = main_axes(*surface)
    return Similarity(rotation, -scale * rotation @ mean, scale)


def _starts(truth: np.ndarray) -> dict[str, Similarity]:
    """Where ICP begins, by name: every way to lay one set of axes on another, and half-way between."""
    mean = truth.mean(axis=0)
    heading = _heading_deg(truth - mean)
    return {
        f"icp@{number}+{turn_deg:.0f}": Similarity(_turn_about_y(heading + turn_deg) @ axes, mean)
        for turn_deg in (0.0, _HALF_WAY_DEG)
        for number, axes in enumerate(Rotation.create_group("O").as_matrix())
    }


def _heading_deg(centred: np.ndarray) -> float:
    """Turn about y that takes +x to the longest extent in plan of points (N, 3), up to half a turn."""
    x, z = centred[:, 0], centred[:, 2]
    return float(np.rad2deg(np.arctan2(-2 * (x @ z), x @ x - z @ z) / 2))


def _nearest_distinct(
    candidates: dict[str, Similarity], pair: CloudPair, count: int, distance: float = _SAME_AT_FIRST
) -> dict[str, Similarity]:
    """At most `count` candidates, the nearest first, without those that end where a nearer one does."""
    kept: dict[str, Similarity] = {}
    for name in sorted(candidates, key=lambda name: pair.match(candidates[name]).chamfer):
        moved = candidates[name].apply(pair.prediction)
        if all(rms(moved - other.apply(pair.prediction)) > distance for other in kept.values()):
            kept[name] = candidates[name]
        if len(kept) == count:
            break
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
