"""Bringing the box of a generated object, as the photo's camera sees it, to the box of its mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MAX_STRETCH = 1.5


@dataclass(frozen=True)
class BoxFit:
    """A move and stretch of pixels, each (2,) as x and y: ``(pixel - centre) * stretch + target``."""

    centre: np.ndarray
    stretch: np.ndarray
    target: np.ndarray

    @classmethod
    def between(cls, pixels: np.ndarray, mask: np.ndarray) -> BoxFit:
        """What brings the box of pixels (N, 2) to that of a mask (H, W) bool, stretched by at most 1.5.

        The poses are estimates; without the correction the edges of an object would look past its mask.
        """
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]]) + 1
        box_low, box_high = pixels.min(axis=0), pixels.max(axis=0)
        stretch = (high - low) / np.maximum(box_high - box_low, 1)
        stretch = np.clip(stretch, 1 / _MAX_STRETCH, _MAX_STRETCH)
        return cls((box_low + box_high) / 2, stretch, (low + high) / 2)

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Move and stretch pixels (..., 2)."""
        return (pixels - self.centre) * self.stretch + self.target
