"""Masks with more than two levels: where an object begins in them."""

from __future__ import annotations

import numpy as np

_NEAR = 0.06  # of the range: levels so near to its ends are ink and paper, and JPEG's noise on them
_BINARY = 0.9  # part of the pixels near the ends in a picture of two levels
_GREY = 24  # levels by which the channels of a pixel without colour may differ after JPEG


def inside_of(levels: np.ndarray) -> np.ndarray:
    """Where a mask with soft or noisy edges shows its object: above half of its highest level.

    Args:
        levels: (..., H, W) numbers of at least 0.

    Returns:
        (..., H, W) bool; nothing where all levels are 0.
    """
    return levels > levels.max(initial=0) / 2


def is_black_and_white(rgb: np.ndarray) -> bool:
    """Whether a picture (H, W, 3) uint8 is a mask and no photo: without colour, and of two levels.

    Levels are 0 and any other one, with soft edges or JPEG's noise.
    """
    levels = rgb.astype(np.int16)
    if np.ptp(levels, axis=-1).max() > _GREY:
        return False
    grey = levels.mean(axis=-1)
    highest = grey.max()
    if highest == 0:
        return True
    return float(((grey <= _NEAR * highest) | (grey >= (1 - _NEAR) * highest)).mean()) >= _BINARY
