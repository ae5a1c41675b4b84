"""What a shell on a grid encloses: the points that make one solid of its two skins.

Networks that learn the distance to a surface without a sign give a shell around it, with its outer and its
inner skin, and often with openings that the object does not have. A cavity belongs to the solid when the way
into it is narrower than the cavity itself; so a cushion with a tear is filled, and the compartment of a shelf
stays open.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from scipy import ndimage

Grid = TypeVar("Grid")
"""Points of a grid: a NumPy array, or a tensor."""


@dataclass(frozen=True)
class Closing:
    """How wide an opening may be that does not count as one, in shares of the edge of the object's cube.

    Attributes:
        gap: gaps and pinholes up to this width are filled wherever they are.
        opening: cavities are filled whose openings are narrower than they are and at most this wide.
    """

    gap: float = 1 / 64
    opening: float = 1 / 8

    def __post_init__(self) -> None:
        if not 0 <= self.gap < 1 or not 0 <= self.opening < 1:
            raise ValueError(
                f"Closing: expected gap and opening in [0, 1), got {self.gap} and {self.opening}"
            )

    def gap_radius(self, resolution: int) -> int:
        """Half the widest gap, in whole cells of a grid with ``resolution`` cells along the cube's edge."""
        return int(self.gap * resolution / 2)

    def opening_radii(self, resolution: int) -> list[int]:
        """Half widths of openings, in cells, each twice the one before."""
        radius, radii = max(1, self.gap_radius(resolution)), []
        while radius <= self.opening * resolution / 2:
            radii.append(radius)
            radius *= 2
        return radii


@dataclass(frozen=True)
class GridSteps(Generic[Grid]):
    """What is done to the points (X, Y, Z) bool of a grid, for one kind of array.

    Attributes:
        pad: (points, margin) -> points with a margin of free ones on all sides.
        near: see `near`.
        outside: see `_outside`.
    """

    pad: Callable[[Grid, int], Grid]
    near: Callable[[Grid, int], Grid]
    outside: Callable[[Grid], Grid]


def enclosed_points(
    shell: Grid, resolution: int, closing: Closing | None = None, steps: GridSteps[Grid] | None = None
) -> Grid:
    """Find the points inside a shell.

    Args:
        shell: (X, Y, Z) bool, points of a regular grid; beyond it is outside.
        resolution: cells along the edge of the object's cube, of which the widths of ``closing`` are shares.
        closing: which openings do not count; None is `Closing()`.
        steps: for the kind of ``shell``; None: it is a NumPy array.

    Returns:
        (X, Y, Z) bool, none of them in ``shell``: gaps, cavities behind narrow openings, and everything that
        no path along the grid's axes joins to the outside.
    """
    closing, steps = closing or Closing(), steps or GridSteps(np.pad, near, _outside)
    gap, openings = closing.gap_radius(resolution), closing.opening_radii(resolution)
    margin = max([gap, *openings], default=0) + 1
    solid = steps.pad(shell, margin)
    solid |= ~steps.near(~steps.near(solid, gap), gap)
    enclosed = [_cavities(solid, radius, steps) for radius in openings]
    for cavities in enclosed:
        solid |= cavities
    inner = (slice(margin, -margin),) * 3
    return ~steps.outside(solid)[inner] & ~shell


def near(points: np.ndarray, steps: int = 1) -> np.ndarray:
    """The points (X, Y, Z) bool of a grid at most so many steps along each axis from one of ``points``.

    Eight points of a row are the bits of one byte, so that this takes a tenth of the time of a filter.
    """
    bits = np.packbits(points, axis=2, bitorder="little")
    done = 0
    while done < steps:
        step = min(done + 1, steps - done)  # farther would go over points between, or beyond the grid's edge
        for axis in range(2):
            rows = np.moveaxis(bits, axis, 0)
            before = rows.copy()
            rows[step:] |= before[:-step]
            rows[:-step] |= before[step:]
        _grow_along_bits(bits, step)
        done += step
    return np.unpackbits(bits, axis=2, count=points.shape[2], bitorder="little").view(bool)


def _grow_along_bits(bits: np.ndarray, step: int) -> None:
    """Set the bits (X, Y, bytes) that are ``step`` before or after one in their row, the lowest bit first."""
    skipped, shift = divmod(step, 8)
    margin, size = skipped + 1, bits.shape[2]
    before = np.pad(bits, ((0, 0), (0, 0), (margin, margin)))
    bits |= before[..., 1 : size + 1] << shift
    bits |= before[..., :size] >> (8 - shift)
    bits |= before[..., 2 * margin - 1 : -1] >> shift
    bits |= before[..., 2 * margin :] << (8 - shift)


def _outside(solid: np.ndarray) -> np.ndarray:
    """Free points that a path along the axes joins to the first corner of the grid, which is free."""
    labels, _ = ndimage.label(~solid)
    return labels == labels[0, 0, 0]


def _cavities(solid: Grid, radius: int, steps: GridSteps[Grid]) -> Grid:
    """Free points of cavities with openings at most 2 ``radius`` wide, and wider than that themselves."""
    thick = steps.near(solid, radius)
    outside = steps.outside(thick)
    core = ~(thick | outside)
    if not core.any():
        return core
    # Grown back to the walls; in the openings up to where the outside, grown back as well, ends.
    return steps.near(core, radius + 1) & ~(solid | steps.near(outside, radius))
