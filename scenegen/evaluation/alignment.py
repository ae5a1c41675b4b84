"""Alignment of scenes and objects: one FilterReg or ICP as it is, or a coarse search over vertical turns.

Every transform maps the prediction onto the truth: x_truth = scale * R x_prediction + t. Alignment is rigid
(scale 1) except where `with_scale` asks for a similarity, and by coherent point drift.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from scenegen.evaluation.clouds import CloudPair, Matches, symmetric_icp
from scenegen.evaluation.registration import (
    COARSE_CELLS,
    FINE_CELLS,
    IDENTITY,
    OBJECT_CELLS,
    Similarity,
    filterreg,
    rigid_cpd,
)
from scenegen.evaluation.search import SEARCH_POINTS, nearest_alignment

_UNTOUCHED = "unaligned"

CPD_POINTS = 5000

ALIGNMENT_MODES = ("best", "filterreg", "icp", "cpd", "none")


@dataclass(frozen=True)
class Alignment:
    """An aligned pair of clouds.

    Attributes:
        transform: prediction to truth.
        method: how it was found, such as "filterreg".
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


def align(
    pair: CloudPair,
    settings: AlignmentSettings,
    rng: np.random.Generator,
    *,
    compare: bool = True,
    surface: tuple[np.ndarray, np.ndarray] | None = None,
) -> Alignment:
    """Align a predicted scene to the true one.

    `filterreg`, `icp` and `cpd` run once from where the prediction stands and take the result as it is, `cpd`
    with a scale and on 5,000 points of each cloud. `best` takes the nearest of twelve turns about the
    vertical, refined (`scenegen.evaluation.search`), and keeps the untouched prediction where that is nearer.
    The size of the prediction is then that at which its box has the longest side of scene files along the
    axes of the truth, whatever axes its file has: how a scene stands in its file changes no figure.

    Args:
        pair: clouds in one frame, y up, both centred near the origin.
        settings: mode and iteration limits.
        rng: draws the points on which ICP works.
        compare: also find the neighbours of the untouched prediction, which `best` does in any case.
        surface: vertices (V, 3) and faces (F, 3) of the prediction, whose box `best` keeps at that size and
            whose main axes lay out its starts; None keeps scale 1.
    """
    began = time.perf_counter()
    if settings.mode == "best":
        transform, method = nearest_alignment(pair, rng, settings.max_iterations, settings.tolerance, surface)
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
    small = pair.subsample(SEARCH_POINTS, rng)
    refined = symmetric_icp(small, start, settings.max_iterations, settings.tolerance, with_scale=True)
    return refined if small.match(refined).chamfer < small.match(start).chamfer else start


def _single_start(
    pair: CloudPair, settings: AlignmentSettings, rng: np.random.Generator, cells: float
) -> tuple[Similarity, str]:
    limits = {"max_iterations": settings.max_iterations, "tolerance": settings.tolerance}
    if settings.mode == "none":
        return IDENTITY, _UNTOUCHED
    if settings.mode == "icp":
        return symmetric_icp(pair.subsample(SEARCH_POINTS, rng), **limits), "icp"
    if settings.mode == "cpd":
        few = pair.subsample(CPD_POINTS, rng)
        return rigid_cpd(few.prediction, few.truth, **limits), "cpd"
    cells = COARSE_CELLS if settings.mode == "best" else cells
    return filterreg(pair.prediction, pair.truth, **limits, cell_in_sigma=cells), "filterreg"
