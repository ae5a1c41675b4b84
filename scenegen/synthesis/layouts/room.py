"""Floor and walls of a scene, and their colours."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import numpy as np

from scenegen.synthesis.layouts.camera import NEAREST_WALL_M
from scenegen.synthesis.layouts.fittings import RoomNeeds, wall_at, wall_distance
from scenegen.synthesis.layouts.footprints import Item
from scenegen.synthesis.layouts.scene_layout import Camera, Room, Vector3, Wall

_GAP_M, _CLOSED_ROOM_GAP_M = 0.3, 0.9  # mean distance from the items to a wall


def draw_room(
    rng: np.random.Generator, items: Sequence[Item], camera: Camera, room_yaw: float, needs: RoomNeeds
) -> Room:
    """Draw colours, and the walls that are needed with others behind the items."""
    return Room(
        floor_colour=_draw_colour(rng, hue=(0.03, 0.14), saturation=(0.0, 0.5), value=(0.3, 0.85)),
        wall_colour=_draw_colour(rng, hue=(0.0, 1.0), saturation=(0.0, 0.25), value=(0.75, 1.0)),
        walls=_draw_walls(rng, items, camera, room_yaw, needs),
        ceiling_m=needs.ceiling_m,
    )


def _draw_walls(
    rng: np.random.Generator, items: Sequence[Item], camera: Camera, room_yaw: float, needs: RoomNeeds
) -> tuple[Wall, ...]:
    """Up to two walls as the camera sees them, or those of a closed room: all before which it stands."""
    directions = [room_yaw + quarter * math.pi / 2 for quarter in range(4)]
    normals = [(math.sin(direction), math.cos(direction)) for direction in directions]  # (x, z)
    towards = (camera.position[0] - camera.target[0], camera.position[2] - camera.target[2])
    normals.sort(key=lambda n: -(n[0] * towards[0] + n[1] * towards[1]))
    if not needs.is_closed:
        normals = normals[: int(rng.choice(3, p=(0.3, 0.35, 0.35)))]
    walls = list(needs.walls)
    standing = [(wall.normal[0], wall.normal[2]) for wall in walls]
    for normal in normals:
        if any(normal[0] * other[0] + normal[1] * other[1] > 0.5 for other in standing):
            continue
        behind = wall_distance(rng, items, normal, _CLOSED_ROOM_GAP_M if needs.is_closed else _GAP_M)
        if normal[0] * camera.position[0] + normal[1] * camera.position[2] > behind + NEAREST_WALL_M:
            walls.append(wall_at(normal, behind))
    return tuple(walls)


def _draw_colour(
    rng: np.random.Generator,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Vector3:
    return colorsys.hsv_to_rgb(*(float(rng.uniform(*bounds)) for bounds in (hue, saturation, value)))
