"""Whether an object is in balance on what it stands on."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import ConvexHull, QhullError

TOUCHING = 0.004
"""Of the longest side: what is no higher than that above the lowest point of an object is a foot of it."""


def lowest_points(vertices: np.ndarray, above: float) -> np.ndarray:
    """Those of some points (V, 3), y up, that are no higher than that above the lowest one."""
    heights = vertices[:, 1]
    return vertices[heights <= heights.min() + above]


def support_margin(feet: np.ndarray, centre: np.ndarray) -> float:
    """How far a centre of mass is inside the area between feet, both seen from above.

    Args:
        feet: (P, 2).
        centre: (2,).

    Returns:
        Distance to the rim of their convex hull; negative outside, and where they enclose no area.
    """
    if len(feet) < 3:
        return -math.inf
    try:
        area = ConvexHull(feet)
    except QhullError:  # all in one line
        return -math.inf
    return -float((area.equations[:, :2] @ centre + area.equations[:, 2]).max())
