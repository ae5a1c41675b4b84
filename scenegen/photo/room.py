"""The room of a photo: its floor and up to four upright walls at right angles, as the camera sees them.

The camera stands inside the room, so that every pixel shows the plane that its ray meets first. Which planes
there are is told by the colours between the objects' masks, see `scenegen.photo.room_fit`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from scenegen.photo.camera import PhotoCamera

WALLS = 4
FLOOR = 0
"""Number of the floor among the planes; walls follow from 1, and `NOTHING` is met by rays into the open."""

NOTHING = -1
_LEVEL = 1e-6


@dataclass(frozen=True)
class RoomPlanes:
    """Planes around a camera, in the query frame, y up.

    Attributes:
        eye: (3,) where the camera is.
        floor: height of the floor, below the eye.
        turn: radians about y, from +z towards +x, of the first wall's direction; each further one is a
            quarter turn on.
        distances: (4,) level, from the eye to the walls; infinite where there is none.
    """

    eye: np.ndarray
    floor: float
    turn: float
    distances: tuple[float, float, float, float] = (np.inf,) * WALLS

    @property
    def directions(self) -> np.ndarray:
        """(4, 3) level unit vectors from the eye to the walls."""
        angles = self.turn + np.arange(WALLS) * np.pi / 2
        return np.stack([np.sin(angles), np.zeros(WALLS), np.cos(angles)], axis=1)

    def with_wall(self, wall: int, distance: float) -> RoomPlanes:
        """The same room with one wall, from 0 to 3, at a distance."""
        distances = list(self.distances)
        distances[wall] = float(distance)
        return replace(self, distances=tuple(distances))

    def meet(self, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What rays from the eye meet first.

        Args:
            rays: (N, 3) of any length.

        Returns:
            Numbers (N,) of planes: `FLOOR`, 1 to 4 for walls, or `NOTHING`; and where (N,) along the ray, in
            lengths of it.
        """
        down = np.minimum(rays[:, 1], -_LEVEL)
        floor = np.where(rays[:, 1] < -_LEVEL, (self.floor - self.eye[1]) / down, np.inf)
        towards = np.maximum(rays @ self.directions.T, _LEVEL)
        walls = np.where(towards > _LEVEL, np.asarray(self.distances) / towards, np.inf)
        ways = np.column_stack([floor, walls])
        first = ways.argmin(axis=1)
        way = ways[np.arange(len(ways)), first]
        return np.where(np.isfinite(way), first, NOTHING), way


def eye_of(camera: PhotoCamera) -> np.ndarray:
    """Where (3,) a camera is, in the query frame."""
    return -camera.extrinsics[:3, :3].T @ camera.extrinsics[:3, 3]


def rays_of(camera: PhotoCamera, places: np.ndarray) -> np.ndarray:
    """Rays (N, 3) in the query frame, of camera depth 1, through places (N, 2) in widths from the centre."""
    in_camera = np.column_stack([places / camera.focal, np.ones(len(places))])
    return in_camera @ camera.extrinsics[:3, :3]
