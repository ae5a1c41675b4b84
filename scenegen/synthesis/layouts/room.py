"""Floor and walls of a scene, and their colours."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import numpy as np

from scenegen.synthesis.layouts.footprints import Item
from scenegen.synthesis.layouts.scene_layout import Camera, Room, Vector3, Wall, vector3


def draw_room(rng: np.random.Generator, items: Sequence[Item], camera: Camera, room_yaw: float) -> Room:
    """Draw colours and up to two walls behind the items as the camera sees them."""
    return Room(
        floor_colour=_draw_colour(rng, hue=(0.03, 0.14), saturation=(0.0, 0.5), value=(0.3, 0.85)),
        wall_colour=_draw_colour(rng, hue=(0.0, 1.0), saturation=(0.0, 0.25), value=(0.75, 1.0)),
        walls=_draw_walls(rng, items, camera, room_yaw),
    )


def _draw_walls(
    rng: np.random.Generator, items: Sequence[Item], camera: Camera, room_yaw: float
) -> tuple[Wall, ...]:
    directions = [room_yaw + quarter * math.pi / 2 for quarter in range(4)]
    normals = [(math.sin(direction), math.cos(direction)) for direction in directions]  # (x, z)
    towards = (camera.position[0] - camera.target[0], camera.position[2] - camera.target[2])
    normals.sort(key=lambda n: -(n[0] * towards[0] + n[1] * towards[1]))
    walls = []
    for normal in normals[: int(rng.choice(3, p=(0.3, 0.35, 0.35)))]:
        behind = min(item.least_along(normal) for item in items) - (0.02 + 0.3 * rng.standard_exponential())
        if normal[0] * camera.position[0] + normal[1] * camera.position[2] > behind + 0.2:
            point = vector3((normal[0] * behind, 0.0, normal[1] * behind))
            walls.append(Wall(point, (normal[0], 0.0, normal[1])))
    return tuple(walls)


def _draw_colour(
    rng: np.random.Generator,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Vector3:
    return colorsys.hsv_to_rgb(*(float(rng.uniform(*bounds)) for bounds in (hue, saturation, value)))
