"""The room of a photo as plain meshes, one for each plane, in the colours that the photo shows there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import trimesh
from PIL import Image
from scipy import ndimage

from scenegen.geometry import apply_transform
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.room import FLOOR, WALLS, RoomPlanes, rays_of

MAX_TEXELS = 512
"""Along the longer side of a part."""

_MARGIN = 0.15  # of the objects' size, around them where nothing else bounds the room
_FARTHEST = 1.5  # of their size, beyond them: farther floor is left out
_SHOWN = 0.995  # share of what the photo shows of the room that is kept
_CELLS = 160  # along the photo's width, to see how far the room goes


@dataclass(frozen=True)
class RoomPart:
    """A rectangle of the room, seen from inside.

    Attributes:
        node: name of its node in scene files.
        corners: (4, 3) in the query frame: lower left, lower right, upper right, upper left; of the floor
            those near its first and second direction last.
        picture: (H, W, 3) uint8 sRGB, its upper left texel at the upper left corner.
        seen: share of the texels that the photo shows; the others have the mean of these.
    """

    node: str
    corners: np.ndarray
    picture: np.ndarray
    seen: float

    def moved(self, transform: np.ndarray) -> RoomPart:
        """The same part after a similarity (4, 4)."""
        return replace(self, corners=apply_transform(transform, self.corners))

    def mesh(self) -> trimesh.Trimesh:
        """Two triangles with a texture, whose front is the inside of the room."""
        uv = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(self.picture))
        visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
        return trimesh.Trimesh(self.corners, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False)


def room_parts(
    room: RoomPlanes, photo: np.ndarray, free: np.ndarray, camera: PhotoCamera, points: np.ndarray
) -> list[RoomPart]:
    """Make the floor and the walls that the photo shows.

    The floor reaches to the walls, and elsewhere as far as it is seen or objects stand. Walls are as high as
    they are seen, and at least as high as the objects.

    Args:
        room: in the query frame.
        photo: (H, W, 3) uint8.
        free: (H, W) bool, pixels that show the room.
        camera: of the photo.
        points: (N, 3) of the objects.

    Returns:
        ``room_floor``, and ``room_wall_<k>`` for each wall.
    """
    size = float(np.linalg.norm(np.ptp(points, axis=0)))
    planes, places = _seen_places(room, free, camera)
    extents = _extents(room, places, points, size)
    corners = {"room_floor": _floor_corners(room, extents)}
    walls = [wall for wall in range(WALLS) if np.isfinite(room.distances[wall])]
    top = float(points[:, 1].max())
    if len(on_walls := places[planes > FLOOR]):
        top = float(np.clip(np.quantile(on_walls[:, 1], _SHOWN), top, top + _FARTHEST * size))
    for number, wall in enumerate(walls):
        corners[f"room_wall_{number}"] = _wall_corners(room, extents, wall, top)
    return [_part(node, each, photo, free, camera) for node, each in corners.items()]


def _seen_places(room: RoomPlanes, free: np.ndarray, camera: PhotoCamera) -> tuple[np.ndarray, np.ndarray]:
    """Planes (N,) and points (N, 3) of the room at a grid of the photo's free pixels."""
    height, width = free.shape
    step = max(1, width // _CELLS)
    rows, columns = np.nonzero(free[::step, ::step])
    pixels = np.column_stack([columns, rows]) * step + 0.5
    rays = rays_of(camera, (pixels - [width / 2, height / 2]) / width)
    planes, way = room.meet(rays)
    met = np.isfinite(way)
    return planes[met], room.eye + way[met, None] * rays[met]


def _extents(room: RoomPlanes, shown: np.ndarray, points: np.ndarray, size: float) -> np.ndarray:
    """How far (4,) the room goes from below the eye in each direction, negative where it begins beyond.

    Args:
        shown: (N, 3) points of it that the photo shows.
        points: (M, 3) of the objects.
        size: of all objects together.
    """
    objects = ((points - room.eye) @ room.directions.T).max(axis=0)
    extents = objects + _MARGIN * size
    if len(shown):
        farthest = np.quantile((shown - room.eye) @ room.directions.T, _SHOWN, axis=0)
        extents = np.clip(farthest, extents, objects + _FARTHEST * size)
    return np.where(np.isfinite(room.distances), room.distances, extents)


def _floor_corners(room: RoomPlanes, extents: np.ndarray) -> np.ndarray:
    """Corners (4, 3), counter-clockwise as seen from above."""
    ends = [(3, 2), (3, 0), (1, 0), (1, 2)]
    return np.array([_corner(room, extents, pair, room.floor) for pair in ends])


def _wall_corners(room: RoomPlanes, extents: np.ndarray, wall: int, top: float) -> np.ndarray:
    """Corners (4, 3), counter-clockwise as seen from the eye, the lower left one first."""
    left, right = (wall + 1) % WALLS, (wall - 1) % WALLS
    ends = [(left, room.floor), (right, room.floor), (right, top), (left, top)]
    return np.array([_corner(room, extents, (wall, side), height) for side, height in ends])


def _corner(room: RoomPlanes, extents: np.ndarray, walls: Sequence[int], height: float) -> np.ndarray:
    """The upright edge at which the room ends in two neighbouring directions, at a height."""
    place = room.eye + sum(extents[wall] * room.directions[wall] for wall in walls)
    return np.array([place[0], height, place[2]])


def _part(
    node: str, corners: np.ndarray, photo: np.ndarray, free: np.ndarray, camera: PhotoCamera
) -> RoomPart:
    """Take the colours of a rectangle from the photo."""
    across, up = corners[1] - corners[0], corners[3] - corners[0]
    sides = np.array([np.linalg.norm(up), np.linalg.norm(across)])
    height, width = np.maximum(np.rint(MAX_TEXELS * sides / sides.max()).astype(int), 1)
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, 1 - (np.arange(height) + 0.5) / height)
    places = corners[0] + x[..., None] * across + y[..., None] * up
    colours, seen = _photo_colours(places.reshape(-1, 3), photo, free, camera)
    mean = colours[seen].mean(axis=0) if seen.any() else photo[free].mean(axis=0)
    colours[~seen] = mean
    picture = np.rint(colours).astype(np.uint8).reshape(height, width, 3)
    return RoomPart(node, corners, picture, float(seen.mean()))


def _photo_colours(
    places: np.ndarray, photo: np.ndarray, free: np.ndarray, camera: PhotoCamera
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (N, 3) of points of the room in the photo, and which (N,) of them it shows."""
    height, width = free.shape
    uv, _ = camera.project(places)
    in_front = places @ camera.extrinsics[2, :3] + camera.extrinsics[2, 3] > 0
    columns, rows = (uv * width + np.array([width, height]) / 2 - 0.5).T
    seen = in_front & (columns > -0.5) & (columns < width - 0.5) & (rows > -0.5) & (rows < height - 0.5)
    at = np.stack([rows, columns])[:, seen]
    seen[seen] = free[tuple(np.rint(at).astype(int))]
    at = np.stack([rows, columns])[:, seen]
    colours = np.zeros((len(places), 3))
    for channel in range(3):
        colours[seen, channel] = ndimage.map_coordinates(
            photo[..., channel].astype(np.float32), at, order=1, mode="nearest"
        )
    return colours, seen
