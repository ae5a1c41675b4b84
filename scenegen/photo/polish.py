"""Polish a camera on silhouettes: small steps, each of which moves all outlines by about as much."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scenegen.photo.outlines import (
    ELEVATION,
    HIGHEST,
    LOG_FOCAL,
    LOWEST,
    MaskOutlines,
    outline_differences,
)

STEPS = (0.02, 0.01, 0.005, 0.0025)
"""How far the outlines move in each round, in widths of the photo."""

_TRIALS = 24  # of a round
_STEP_OF_LIMITS = 0.02  # of which outlines ...
_FOCAL_LIMIT, _ELEVATION_LIMIT = 0.3, np.deg2rad(15)  # ... the lens and the elevation move by less than this
_LEAST = 1e-6


def polish(
    parameters: np.ndarray,
    points: np.ndarray,
    outlines: MaskOutlines,
    score: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Look for a better camera nearby.

    Args:
        parameters: (6,), where to begin, see `outlines`.
        points: (N, P, 3) outermost points of the objects, query frame.
        outlines: of N masks.
        score: of cameras (K, 6), higher is better: (K,).

    Returns:
        (6,) the best camera found.
    """
    rng = np.random.default_rng(0)
    best, best_score = parameters, float(score(parameters[None])[0])
    for step in STEPS:
        drawn = rng.normal(size=(_TRIALS // 2, 6)) / np.sqrt(6) * step
        trials = best + np.concatenate([drawn, -drawn]) @ _even_axes(best, points, outlines).T
        trials = np.clip(trials, LOWEST, HIGHEST)
        scores = score(trials)
        if scores.max() > best_score:
            best, best_score = trials[scores.argmax()], float(scores.max())
    return best


def _even_axes(parameters: np.ndarray, points: np.ndarray, outlines: MaskOutlines) -> np.ndarray:
    """Directions (6, 6), in columns, along which outlines move as far as the step, in the mean square."""
    _, by = outline_differences(parameters[None], points, outlines)
    by = by.reshape(-1, 6)
    squares = by.T @ by / len(by)
    squares[LOG_FOCAL, LOG_FOCAL] += (_STEP_OF_LIMITS / _FOCAL_LIMIT) ** 2
    squares[ELEVATION, ELEVATION] += (_STEP_OF_LIMITS / _ELEVATION_LIMIT) ** 2
    values, vectors = np.linalg.eigh(squares)
    return vectors / np.sqrt(np.maximum(values, _LEAST))
