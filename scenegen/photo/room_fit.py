"""Find the walls of a photo's room: the corners at which the colours between the objects change.

Floor and walls are one colour each that changes evenly over the picture. For a guess of the room, the colours
of each plane are fitted so by least squares; the room that leaves least unexplained wins. A wall has to
explain enough to be worth it. Shadows and patterns stay unexplained in every guess alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from scipy import ndimage, optimize
from scipy.spatial import ConvexHull, QhullError

from scenegen.photo.camera import PhotoCamera
from scenegen.photo.room import NOTHING, WALLS, RoomPlanes, eye_of, rays_of

_COARSE, _FINE = 48, 112  # cells along the photo's width
_TURNS = 18  # guesses of a quarter turn
_DISTANCES = 20
_FARTHEST = 6.0  # times the objects' reach in a direction
_CUT = 0.06  # of the objects' size, by which walls may cut into them: shapes are estimates
_LEAST_REACH = 0.15  # of the objects' size, to the side of or behind the camera
_NOISE = 0.01  # of colours in [0, 1]; less is not worth explaining
_WALL_COST = 0.25  # by which a wall has to lower the logarithm of what is unexplained
_KEPT = 8  # rooms with one wall, to which others are added
_APART = np.deg2rad(12)  # at least, between the directions of these walls
_LEAST_SHARE = 0.01  # of the pixels between objects, for a wall that counts
_COARSE_EVALUATIONS, _FINE_EVALUATIONS = 40, 160
_BORDER = 0.012  # of the photo's width around masks: edges, and the nearest shadow


@dataclass(frozen=True)
class RoomFit:
    """A room, and what it leaves unexplained of the pixels: root mean square, colours in [0, 1]."""

    room: RoomPlanes
    unexplained: float


def between_objects(masks: np.ndarray) -> np.ndarray:
    """Pixels (H, W) bool that show the room, of the masks (K, H, W) bool of all objects."""
    border = max(1, round(_BORDER * masks.shape[2]))
    return ~ndimage.binary_dilation(masks.any(axis=0), iterations=border)


def fit_room(
    photo: np.ndarray, free: np.ndarray, camera: PhotoCamera, floor: float, points: np.ndarray
) -> RoomFit | None:
    """Find the room of a photo.

    Args:
        photo: (H, W, 3) uint8.
        free: (H, W) bool, pixels that show the room, see `between_objects`.
        camera: in the query frame.
        floor: height of the floor there.
        points: (N, 3) of the objects, which stand inside.

    Returns:
        None where the camera is not above the floor, or hardly a pixel shows the room.
    """
    eye = eye_of(camera)
    if not eye[1] > floor or free.mean() < _LEAST_SHARE:
        return None
    standing = points[_outline(points)] - eye
    coarse, fine = (_Evidence.of(photo, free, camera, standing, width) for width in (_COARSE, _FINE))
    best = min(_rooms(RoomPlanes(eye, floor, 0.0), coarse), key=lambda found: found[0])[1]
    room = _refined(best, fine, _FINE_EVALUATIONS)
    for wall in np.flatnonzero(np.isfinite(room.distances)):
        without = room.with_wall(wall, np.inf)
        if fine.share(room, wall) < _LEAST_SHARE or fine.cost(without) <= fine.cost(room):
            room = without
    return RoomFit(room, float(np.sqrt(fine.unexplained(room))))


def _outline(points: np.ndarray) -> np.ndarray:
    """Rows of the points (N, 3) that are farthest out as seen from above; all where they are on one line."""
    try:
        return ConvexHull(points[:, [0, 2]]).vertices
    except QhullError:
        return np.arange(len(points))


def _rooms(start: RoomPlanes, colours: _Evidence) -> Iterator[tuple[float, RoomPlanes]]:
    """Guesses with their costs: no wall, one, and others that join the best of one."""
    yield colours.cost(start), start
    single = []
    for turn in np.arange(_TURNS) * (np.pi / 2 / _TURNS):
        single += _with_one_more(replace(start, turn=turn), colours)
    for room in _unlike(single):
        room = _refined(room, colours, _COARSE_EVALUATIONS)
        cost = colours.cost(room)
        yield cost, room
        while not np.isfinite(room.distances).all():
            further = min(_with_one_more(room, colours), key=lambda found: found[0])[1]
            further = _refined(further, colours, _COARSE_EVALUATIONS)
            if colours.cost(further) >= cost:
                break
            cost, room = colours.cost(further), further
            yield cost, room


def _unlike(guesses: list[tuple[float, RoomPlanes]]) -> list[RoomPlanes]:
    """The best rooms with one wall whose directions differ."""
    kept: list[RoomPlanes] = []
    facing: list[np.ndarray] = []
    for _, room in sorted(guesses, key=lambda found: found[0]):
        direction = room.directions[np.isfinite(room.distances)][0]
        if all(direction @ other < np.cos(_APART) for other in facing):
            kept.append(room)
            facing.append(direction)
    return kept[:_KEPT]


def _with_one_more(room: RoomPlanes, colours: _Evidence) -> list[tuple[float, RoomPlanes]]:
    """All guesses that add one wall to a room."""
    reach = colours.reach(room)
    guesses = []
    for wall in np.flatnonzero(~np.isfinite(room.distances)):
        for distance in np.geomspace(reach[wall], _FARTHEST * reach[wall], _DISTANCES):
            guess = room.with_wall(wall, distance)
            guesses.append((colours.cost(guess), guess))
    return guesses


def _refined(room: RoomPlanes, colours: _Evidence, evaluations: int) -> RoomPlanes:
    """Move the walls of a room a little to where they explain most."""
    walls = np.flatnonzero(np.isfinite(room.distances))
    if not len(walls):
        return room

    def moved(values: np.ndarray) -> RoomPlanes:
        result = replace(room, turn=room.turn + values[0])
        for wall, stretch in zip(walls, values[1:]):
            result = result.with_wall(wall, room.distances[wall] * np.exp(stretch))
        return result

    steps = np.array([np.pi / 2 / _TURNS, *[np.log(_FARTHEST) / _DISTANCES] * len(walls)]) * 0.6
    simplex = np.vstack([np.zeros(len(steps)), np.diag(steps)])
    found = optimize.minimize(
        lambda values: colours.cost(moved(values)),
        np.zeros(len(steps)),
        method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": evaluations, "xatol": 1e-4, "fatol": 1e-5},
    )
    return moved(found.x)


@dataclass(frozen=True)
class _Evidence:
    """What guesses are judged by: cells of the photo that show the room, and where objects stand.

    Attributes:
        standing: (K, 3) points of the objects, from the eye.
        rays: (N, 3) through their middles.
        terms: (N, 3): 1 and the place in the picture, of which colours are linear functions.
        colours: (N, 3) in [0, 1].
    """

    standing: np.ndarray
    rays: np.ndarray
    terms: np.ndarray
    colours: np.ndarray

    @classmethod
    def of(
        cls, photo: np.ndarray, free: np.ndarray, camera: PhotoCamera, standing: np.ndarray, width: int
    ) -> _Evidence:
        """Look at the photo in so many cells along its width."""
        height = max(1, round(width * camera.aspect))
        size = (width, height)
        shrunk = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BOX)) / 255.0
        seen = (
            np.asarray(Image.fromarray(free.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 250
        )
        x, y = np.meshgrid((np.arange(width) + 0.5) / width - 0.5, (np.arange(height) + 0.5) / width)
        places = np.stack([x, y - camera.aspect / 2], axis=-1)[seen]
        terms = np.column_stack([np.ones(len(places)), places])
        return cls(standing, rays_of(camera, places), terms, shrunk[seen])

    def unexplained(self, room: RoomPlanes) -> float:
        """Mean squared error of colours that are linear in the picture on each plane."""
        planes = self.planes(room)
        left = 0.0
        for plane in range(NOTHING, WALLS + 1):
            here = planes == plane
            if here.any():
                terms, colours = self.terms[here], self.colours[here]
                inner = terms.T @ terms + 1e-3 * np.eye(3)
                outer = terms.T @ colours
                left += float(np.square(colours).sum() - (outer * np.linalg.solve(inner, outer)).sum())
        return max(left, 0.0) / max(self.colours.size, 1)

    def cost(self, room: RoomPlanes) -> float:
        """Logarithm of what a room leaves unexplained, and what walls cost; inf where they cut objects."""
        if (np.asarray(room.distances) < self.reach(room) * (1 - 1e-9)).any():
            return np.inf
        walls = int(np.isfinite(room.distances).sum())
        return float(np.log(self.unexplained(room) + _NOISE**2)) + _WALL_COST * walls

    def reach(self, room: RoomPlanes) -> np.ndarray:
        """How near (4,) to the eye walls may be for the objects to stand before them."""
        size = float(np.linalg.norm(np.ptp(self.standing, axis=0)))
        away = (self.standing @ room.directions.T).max(axis=0)
        return np.maximum(away - _CUT * size, _LEAST_REACH * size)

    def share(self, room: RoomPlanes, wall: int) -> float:
        """Share of the cells that show a wall."""
        return float((self.planes(room) == wall + 1).mean())

    def planes(self, room: RoomPlanes) -> np.ndarray:
        return room.meet(self.rays)[0]
