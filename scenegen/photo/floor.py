"""The floor of a scene: the level plane on which most of its objects stand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_TOLERANCE = 0.15  # query sides between bottoms that make one floor


def floor_height(bottoms: Sequence[float], sizes: Sequence[float], query: int) -> float:
    """Height of the plane that objects stand on.

    Each bottom is a candidate; objects that stand there count for it and objects that would reach below it
    count against it, large ones more. The query, whose pose is exact, decides if it stands on the winner.

    Args:
        bottoms: of N >= 1 objects, along y of the query frame.
        sizes: of the objects, in longest sides of the query.
        query: the object that defines the frame.
    """
    heights, weights = np.asarray(bottoms, dtype=np.float64), np.square(np.asarray(sizes, dtype=np.float64))

    def score(height: float) -> float:
        stands = np.abs(heights - height) <= _TOLERANCE
        return float(weights[stands].sum() - weights[heights < height - _TOLERANCE].sum())

    best = max(sorted(heights), key=score)  # of equals the lowest
    members = np.abs(heights - best) <= _TOLERANCE
    return float(heights[query] if members[query] else np.median(heights[members]))
