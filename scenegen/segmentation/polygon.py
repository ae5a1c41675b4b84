"""Masks refined to one filled outline."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_NEIGHBOURS = np.ones((3, 3))  # an outline may go over corners


def refine_polygon(mask: np.ndarray) -> np.ndarray:
    """Keep the largest part of a mask, inside its outer contour, and fill what the contour encloses.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) bool; an empty mask stays empty. The area of a part is that inside its contour.

    Source: as the published demo does with OpenCV's external contours.
    """
    filled = ndimage.binary_fill_holes(mask)
    parts, count = ndimage.label(filled, structure=_NEIGHBOURS)
    if count < 2:
        return filled
    areas = np.bincount(parts.ravel())
    return parts == 1 + areas[1:].argmax()
