"""Learning what signs are worth from scenes whose truth is known.

A logistic regression on standardised signs gives a score. Its map to chances is an isotonic regression of
scores that each scene got from a regression without it: what was fitted to a scene says too much about it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import optimize

from scenegen.confidence.calibration import Judgement
from scenegen.confidence.signs import Signs

FOLDS = 8
"""Parts into which the scenes are dealt, each scored by a regression on the others."""

_BINS = 14  # at most, of equally many scores, over which chances are averaged before they are made to rise
_CASES_IN_BIN = 25  # at least, where there are so many
_PRIOR = 1.0  # cases of the overall share that each bin counts beside its own
_WEIGHT_DECAY = 20.0  # samples of one scene are alike, and say less than so many cases


def fit_judgement(signs: Sequence[Signs], right: Sequence[bool], scenes: Sequence[str]) -> Judgement:
    """Learn one question.

    Args:
        signs: of each case, with the same names.
        right: whether the answer was yes.
        scenes: to which scene each case belongs; samples of one scene are one scene.

    Raises:
        ValueError: there are fewer scenes than folds, or all answers are the same.
    """
    names = sorted(signs[0])
    table = np.array([[each[name] for name in names] for each in signs])
    answers = np.asarray(right, dtype=np.float64)
    groups = np.unique(np.asarray(scenes), return_inverse=True)[1]
    if groups.max() + 1 < FOLDS or not 0 < answers.mean() < 1:
        raise ValueError(
            f"fit_judgement: expected cases of at least {FOLDS} scenes with both answers, got "
            f"{groups.max() + 1} scenes with {int(answers.sum())} of {len(answers)} right"
        )
    fold = groups % FOLDS
    held_out = np.empty(len(answers))
    for number in range(FOLDS):
        inside = fold == number
        weights, bias = _logistic(table[~inside], answers[~inside])
        held_out[inside] = table[inside] @ weights + bias
    weights, bias = _logistic(table, answers)
    scores, chances = _rising(held_out, answers)
    return Judgement(
        float(bias),
        {name: round(float(weight), 6) for name, weight in zip(names, weights, strict=True)},
        tuple(round(float(score), 5) for score in scores),
        tuple(round(float(chance), 5) for chance in chances),
    )


def _logistic(table: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and bias of a logistic regression with weight decay on standardised columns."""
    mean, spread = table.mean(axis=0), table.std(axis=0)
    spread[spread < 1e-9] = np.inf  # a column of one value says nothing
    standard = (table - mean) / spread

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = parameters[:-1], parameters[-1]
        logits = standard @ weights + bias
        error = 1 / (1 + np.exp(-logits)) - answers
        value = np.logaddexp(0, logits).sum() - answers @ logits + _WEIGHT_DECAY * (weights @ weights) / 2
        gradient = np.append(standard.T @ error + _WEIGHT_DECAY * weights, error.sum())
        return float(value), gradient

    start = np.zeros(table.shape[1] + 1)
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B").x
    weights = found[:-1] / spread
    return weights, float(found[-1] - weights @ mean)


def _rising(scores: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots of a rising map from scores to chances."""
    order = np.argsort(scores, kind="stable")
    parts = np.array_split(order, max(min(_BINS, len(order) // _CASES_IN_BIN), 1))
    counts = np.array([len(part) for part in parts], dtype=np.float64)
    means = np.array([answers[part].sum() + _PRIOR * answers.mean() for part in parts]) / (counts + _PRIOR)
    chances = optimize.isotonic_regression(means, weights=counts).x
    return np.array([scores[part].mean() for part in parts]), np.clip(chances, 0, 1)


def calibration_error(chances: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: the mean distance of chances and shares in bins of equally many cases.

    Source: Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.
    """
    order = np.argsort(chances, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(
        sum(len(part) * abs(chances[part].mean() - right[part].mean()) for part in parts) / len(chances)
    )
