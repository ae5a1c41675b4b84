"""The nearest of many alignments of two scenes, found in the prediction's own frame.

The starts are laid out by the shapes of both scenes alone, so that the result does not depend on where the
prediction stands in its file, nor how it is turned or tilted there, as long as the same side is up.
"""

from __future__ import annotations

import numpy as np

from scenegen.evaluation.clouds import CloudPair, symmetric_icp
from scenegen.evaluation.main_axes import main_axes
from scenegen.evaluation.registration import Similarity, rms
from scenegen.geometry import SCENE_EXTENT

SEARCH_POINTS = 2048
"""Of each cloud, on which ICP ends."""

_TURNS_DEG = np.arange(0.0, 360.0, 30.0)
# Of every start, before all but the nearest ones are given up.
_FIRST_POINTS, _FIRST_ITERATIONS, _KEPT_STARTS = 512, 10, 5
_COARSE_POINTS, _COARSE_ITERATIONS = 1024, 20
_RESIZINGS = 2
# Root mean square distance, in units of the truth, under which two candidates are on the way to one end.
_SAME = 0.02
_LAST_TOLERANCE = 0.03  # of the tolerance: where a scene ends must not depend on where it began


def nearest_alignment(
    pair: CloudPair,
    rng: np.random.Generator,
    max_iterations: int,
    tolerance: float,
    surface: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[Similarity, str]:
    """Refine the best of several shortly iterated starts.

    The prediction is put upright by its main axes, in twelve turns about the vertical from where another one
    of them lies on the longest extent of the truth. ICP brings these starts nearer, and only those of least
    Chamfer distance go on with more points and iterations.

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
    first = limits | {"max_iterations": min(_FIRST_ITERATIONS, max_iterations)}
    short = limits | {"max_iterations": min(_COARSE_ITERATIONS, max_iterations)}
    small = posed.subsample(SEARCH_POINTS, rng)
    candidates = _starts(pair.truth)
    few, coarse = (small.subsample(points, rng) for points in (_FIRST_POINTS, _COARSE_POINTS))
    candidates = {name: symmetric_icp(few, start, **first) for name, start in candidates.items()}
    candidates = _nearest_distinct(candidates, few)
    vertices = None if surface is None else own.apply(surface[0])
    candidates = {name: _refined(coarse, start, vertices, short) for name, start in candidates.items()}
    method = min(candidates, key=lambda name: small.match(candidates[name]).chamfer)
    fine = limits | {"tolerance": tolerance * _LAST_TOLERANCE}
    found = _refined(small, candidates[method], vertices, fine)
    return found.after(own), method


def _own_frame(pair: CloudPair, surface: tuple[np.ndarray, np.ndarray] | None) -> Similarity:
    """Take the prediction to its own frame: centred at its mean, its main axes along x, y, z.

    The axis nearest to the vertical of its file is y. With a surface its points lie as far from their mean
    as those of the truth do.
    """
    mean = pair.prediction.mean(axis=0)
    if surface is None:
        return Similarity(np.eye(3), -mean)
    spread = rms(pair.prediction - mean)
    scale = rms(pair.truth - pair.truth.mean(axis=0)) / spread if spread > 0 else 1.0
    rotation = _upright(main_axes(*surface))
    return Similarity(rotation, -scale * rotation @ mean, scale)


def _upright(axes: np.ndarray) -> np.ndarray:
    """The rotation whose rows are the axes (3, 3), the one nearest to y second and pointing upwards."""
    highest = int(np.abs(axes[:, 1]).argmax())
    up, ahead = axes[highest] * np.sign(axes[highest, 1]), axes[(highest + 1) % 3]
    return np.array([ahead, up, np.cross(ahead, up)])


def _starts(truth: np.ndarray) -> dict[str, Similarity]:
    """Where ICP begins, by name; the prediction is in its own frame."""
    mean = truth.mean(axis=0)
    heading = _heading_deg(truth - mean)
    return {
        f"icp@{turn_deg:.0f}": Similarity(_turn_about_y(heading + turn_deg), mean) for turn_deg in _TURNS_DEG
    }


def _heading_deg(centred: np.ndarray) -> float:
    """Turn about y that takes +x to the longest extent in plan of points (N, 3), up to half a turn."""
    x, z = centred[:, 0], centred[:, 2]
    return float(np.rad2deg(np.arctan2(-2 * (x @ z), x @ x - z @ z) / 2))


def _nearest_distinct(candidates: dict[str, Similarity], pair: CloudPair) -> dict[str, Similarity]:
    """The nearest candidates, without those that end where a nearer one does."""
    kept: dict[str, Similarity] = {}
    for name in sorted(candidates, key=lambda name: pair.match(candidates[name]).chamfer):
        moved = candidates[name].apply(pair.prediction)
        if all(rms(moved - other.apply(pair.prediction)) > _SAME for other in kept.values()):
            kept[name] = candidates[name]
        if len(kept) == _KEPT_STARTS:
            break
    return kept


def _refined(
    pair: CloudPair, start: Similarity, vertices: np.ndarray | None, limits: dict[str, float]
) -> Similarity:
    """Refine a transform by ICP, and where there are vertices the scale that gives their box its size."""
    if vertices is None:
        return symmetric_icp(pair, start, **limits)
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
