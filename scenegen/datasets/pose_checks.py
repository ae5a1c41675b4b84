"""Whether annotated poses of a photo make sense: do its objects stand upright, on one floor, and apart?

Nothing here is an error of the data: things lie on tables and under one another. Figures show where to look.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from scenegen.datasets.metadata import SceneRow
from scenegen.datasets.model_boxes import ModelBox

MAX_TILT_DEG = 5.0
FLOOR_TOLERANCE = 0.02
"""Distance from the floor, over the scene's longest side, up to which an object counts as standing on it."""
MAX_OVERLAP = 0.1
"""Share of the smaller of two boxes inside the other from which a pair counts as overlapping."""
_GRID = 8  # points per side of a box that are looked for in the other
_CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
_POINTS = np.array(list(itertools.product((np.arange(_GRID) + 0.5) / _GRID - 0.5, repeat=3)))


@dataclass(frozen=True)
class PoseCheck:
    """Figures of one photo.

    Attributes:
        tilt_deg: (N,) angle between each object's own up and that of most objects.
        above_floor: (N,) height of each object's lowest corner above the lowest of all, in units of the
            scene's longest side.
        overlap: share of the smaller box inside the other, by pair of objects (i < j).
    """

    tilt_deg: np.ndarray
    above_floor: np.ndarray
    overlap: dict[tuple[int, int], float]

    @property
    def tilted(self) -> int:
        """Objects that do not stand upright."""
        return int((self.tilt_deg > MAX_TILT_DEG).sum())

    @property
    def raised(self) -> int:
        """Objects that do not stand on the floor: on furniture, on a wall, or wrongly placed."""
        return int((self.above_floor > FLOOR_TOLERANCE).sum())

    @property
    def overlapping(self) -> int:
        """Pairs of objects whose boxes overlap."""
        return sum(share > MAX_OVERLAP for share in self.overlap.values())


def check_poses(rows: Sequence[SceneRow], boxes: Sequence[ModelBox]) -> PoseCheck:
    """Look at the boxes of a photo's objects where they are annotated, in the frame of the camera.

    Args:
        rows: of kind scene, at least one.
        boxes: of their model files, whose up is y.
    """
    turns = Rotation.from_euler("xyz", [row.rotation for row in rows], degrees=True).as_matrix()  # (N, 3, 3)
    sizes = np.array([box.size for box in boxes])
    centers = np.array([row.translation for row in rows])
    centers = centers + np.einsum("nij,nj->ni", turns, np.array([box.center for box in boxes]))
    ups = turns[:, :, 1]
    up = _common_direction(ups)
    corners = centers[:, None] + np.einsum("nij,nkj->nki", turns, _CORNERS * sizes[:, None])  # (N, 8, 3)
    lowest = (corners @ up).min(axis=1)
    extent = np.ptp(corners.reshape(-1, 3), axis=0).max()
    return PoseCheck(
        tilt_deg=np.degrees(np.arccos(np.clip(ups @ up, -1, 1))),
        above_floor=(lowest - lowest.min()) / extent,
        overlap={
            (i, j): _overlap(centers, turns, sizes, i, j)
            for i, j in itertools.combinations(range(len(rows)), 2)
        },
    )


def _common_direction(directions: np.ndarray) -> np.ndarray:
    """The one of some unit vectors (N, 3) that has the most others near it."""
    near = directions @ directions.T > np.cos(np.radians(MAX_TILT_DEG))
    return directions[near.sum(axis=1).argmax()]


def _overlap(centers: np.ndarray, turns: np.ndarray, sizes: np.ndarray, i: int, j: int) -> float:
    """Share of the smaller of two boxes that lies inside the other."""
    small, large = (i, j) if sizes[i].prod() <= sizes[j].prod() else (j, i)
    points = centers[small] + (_POINTS * sizes[small]) @ turns[small].T
    local = (points - centers[large]) @ turns[large]
    return float((np.abs(local) <= sizes[large] / 2).all(axis=1).mean())
