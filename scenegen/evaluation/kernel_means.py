"""Gaussian-weighted means of fixed points, seen from points that move a little at a time."""

from __future__ import annotations

import numpy as np

_LARGEST_EXPONENT = 60.0  # so that exp of minus this, times the least weight, is far from the least float
_NEAR = 0.04  # sigma: as far as the series is used its remainder stays below some millionths of sigma

# Products of two and of three coordinates, each once: (6,) and (10,) columns; where a product is among them.
_PAIRS = np.array([(a, b) for a in range(3) for b in range(a, 3)])
_TRIPLES = np.array([(a, b, c) for a in range(3) for b in range(a, 3) for c in range(b, 3)])
_B, _C = _PAIRS.T
_PAIR_AT = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
_TRIPLE_AT = np.array(
    [[_TRIPLES.tolist().index(sorted((a, b, c))) for b, c in _PAIRS.tolist()] for a in range(3)]
)
_TIMES = np.where(_B == _C, 1, 2)  # how often a product of two occurs in a symmetric sum


class KernelMeans:
    """The mean of target points under a Gaussian kernel about any point, with a fixed kernel width.

    The mean m(x) = sum w_j k(x, y_j) y_j / sum w_j k(x, y_j) is smooth: its derivatives are the second and
    third cumulants of the targets under the kernel, over powers of sigma^2. So the kernel of all pairs is
    taken only where some point has gone farther than a few hundredths of sigma since it was last; in between
    the mean follows from the first two terms of the series.
    """

    def __init__(self, targets: np.ndarray, weights: np.ndarray, sigma2: float, reach: float):
        """Prepare the targets.

        Args:
            targets: (M, 3).
            weights: (M,) positive.
            sigma2: squared width of the kernel.
            reach: no point will be farther from a target than this.
        """
        self._sigma2 = sigma2
        falling = np.log(weights / weights.max()) - np.square(targets).sum(axis=1) / (2 * sigma2)
        # What rows (x, 1, -|x|^2 / 2 sigma^2) are multiplied by for log w - |x - y|^2 / 2 sigma^2. Single
        # precision halves the time; what it loses is far below the tolerances of an alignment.
        self._columns = np.vstack([targets.T / sigma2, falling, np.ones(len(targets))]).astype(np.float32)
        self._moments = np.column_stack(
            [
                np.ones(len(targets)),
                targets,
                *(targets[:, list(each)].prod(axis=1)[:, None] for each in (*_PAIRS, *_TRIPLES)),
            ]
        ).astype(np.float32)
        self._within_reach = reach**2 / (2 * sigma2) < _LARGEST_EXPONENT
        self._points: np.ndarray | None = None  # (N, 3) where the kernel was last taken
        self._means = self._series = np.empty(0)

    def at(self, points: np.ndarray) -> np.ndarray:
        """The means (N, 3) about points (N, 3), the same points in the same order as in the last call."""
        if self._points is not None:
            moved = points - self._points
            if np.einsum("ni,ni->n", moved, moved).max() < _NEAR**2 * self._sigma2:
                terms = np.concatenate([moved, moved[:, _B] * moved[:, _C]], axis=1)
                return self._means + np.einsum("nij,nj->ni", self._series, terms)
        self._take(points)
        return self._means

    def _take(self, points: np.ndarray) -> None:
        """Take the kernel of all pairs of points (N, 3) and targets: means and the series about them."""
        falling = -np.square(points).sum(axis=1) / (2 * self._sigma2)
        rows = np.column_stack([points, np.ones(len(points)), falling]).astype(np.float32)
        logits = rows @ self._columns  # (N, M): log weight - squared distance / (2 sigma^2)
        if (
            not self._within_reach
        ):  # a constant for each row changes nothing, and keeps the exponents in range
            logits -= logits.max(axis=1, keepdims=True)
        sums = (np.exp(logits, out=logits) @ self._moments).astype(np.float64)
        sums /= sums[:, :1]
        mean, pairs, triples = sums[:, 1:4], sums[:, 4:10], sums[:, 10:]
        squares = mean[:, _B] * mean[:, _C]
        second = (pairs - squares)[:, _PAIR_AT]  # (N, 3, 3)
        third = triples[:, _TRIPLE_AT] + mean[:, :, None] * (2 * squares - pairs)[:, None]
        third -= mean[:, None, _B] * pairs[:, _PAIR_AT[:, _C]] + mean[:, None, _C] * pairs[:, _PAIR_AT[:, _B]]
        series = [second / self._sigma2, third * (_TIMES / (2 * self._sigma2**2))]
        self._points, self._means, self._series = points, mean, np.concatenate(series, axis=2)
