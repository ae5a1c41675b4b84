"""What hangs from the ceiling and on a wall about a group of furniture, and the room that this asks for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from scenegen.synthesis.layouts.footprints import Item, footprints_overlap
from scenegen.synthesis.layouts.options import ComposerOptions
from scenegen.synthesis.layouts.pool import Model, ModelPool
from scenegen.synthesis.layouts.scene_layout import Wall, vector3

_TRIES = 8
_MIN_LAMP_BOTTOM_M = 1.1
_MOUNTED_MIDDLE_M = (1.1, 1.9)
_SKIN_M = 0.004  # between a thing and the wall or ceiling that it is fixed to


@dataclass(frozen=True)
class RoomNeeds:
    """What a room has to have besides what is drawn for it."""

    walls: tuple[Wall, ...] = ()
    ceiling_m: float | None = None
    is_closed: bool = False  # with walls on all sides


NO_NEEDS = RoomNeeds()


class Fittings:
    """Draws whether a scene has a closed room, hanging lamps and things on a wall, and places these."""

    def __init__(
        self,
        rng: np.random.Generator,
        pool: ModelPool,
        options: ComposerOptions,
        room_yaw: float,
        num_objects: int,
    ) -> None:
        self.rng = rng
        self.pool = pool
        self.room_yaw = room_yaw
        self.walls: list[Wall] = []
        self.ceiling_m: float | None = None
        self.is_closed = self._happens(options.closed_room_probability)
        free = num_objects - 1  # at least one object stands on the floor
        self.num_hanging = min(free, int(bool(pool.hanging) and self._happens(options.hanging_probability)))
        self.num_mounted = 0
        if pool.mounted and self._happens(options.mounted_probability):
            self.num_mounted = min(free - self.num_hanging, 1 + int(self.rng.integers(2)))
        if self.is_closed or self.num_hanging:
            self.ceiling_m = float(self.rng.uniform(*options.ceiling_m))

    @property
    def needs(self) -> RoomNeeds:
        """Of the room, once they are placed."""
        return RoomNeeds(tuple(self.walls), self.ceiling_m, self.is_closed)

    @property
    def count(self) -> int:
        """How many objects do not stand."""
        return self.num_hanging + self.num_mounted

    def add(self, items: list[Item], make: Callable[[Model], Item]) -> bool:
        """Add them to the objects that stand; False when one found no place."""
        if self.ceiling_m is not None:
            self.ceiling_m = max(self.ceiling_m, max(item.top for item in items) + 0.1)
        placed = all(self._hang(items, make) for _ in range(self.num_hanging))
        return placed and (not self.num_mounted or self._mount_all(items, make))

    def _hang(self, items: list[Item], make: Callable[[Model], Item]) -> bool:
        for _ in range(_TRIES):
            item = make(self.pool.hanging[int(self.rng.integers(len(self.pool.hanging)))])
            item.bottom = self.ceiling_m - item.size[1] - _SKIN_M
            item.yaw = self.room_yaw + math.pi / 2 * int(self.rng.integers(4))
            above = items[0] if self.rng.random() < 0.6 else items[int(self.rng.integers(len(items)))]
            spread = 0.1 if above is items[0] else 0.6
            item.x = above.x + spread * float(self.rng.normal())
            item.z = above.z + spread * float(self.rng.normal())
            if item.bottom > _MIN_LAMP_BOTTOM_M and not _hits(item, items):
                items.append(item)
                return True
        return False

    def _mount_all(self, items: list[Item], make: Callable[[Model], Item]) -> bool:
        """Put up a wall behind or beside the objects, and things on it."""
        quarter = 0 if self.rng.random() < 0.7 else int(self.rng.choice((1, 3)))
        direction = self.room_yaw + quarter * math.pi / 2
        normal, along = (
            (math.sin(direction), math.cos(direction)),
            (math.cos(direction), -math.sin(direction)),
        )
        behind = wall_distance(self.rng, items, normal, most=0.3)
        self.walls.append(wall_at(normal, behind))
        reach = [item.x * along[0] + item.z * along[1] for item in items]
        for _ in range(self.num_mounted):
            if not self._mount(items, make, direction, behind, (min(reach) - 0.3, max(reach) + 0.3)):
                return False
        return True

    def _mount(
        self,
        items: list[Item],
        make: Callable[[Model], Item],
        direction: float,
        behind: float,
        reach: tuple[float, float],
    ) -> bool:
        for _ in range(_TRIES):
            item = make(self.pool.mounted[int(self.rng.integers(len(self.pool.mounted)))])
            item.yaw = direction
            out, aside = behind + item.size[2] / 2 + _SKIN_M, self.rng.uniform(*reach)
            item.x = math.sin(direction) * out + math.cos(direction) * aside
            item.z = math.cos(direction) * out - math.sin(direction) * aside
            item.bottom = float(self.rng.uniform(*_MOUNTED_MIDDLE_M)) - item.size[1] / 2
            too_high = self.ceiling_m is not None and item.top > self.ceiling_m
            if item.bottom > 0.05 and not too_high and not _hits(item, items):
                items.append(item)
                return True
        return False

    def _happens(self, probability: float) -> bool:
        return probability > 0 and bool(self.rng.random() < probability)


def wall_distance(
    rng: np.random.Generator, items: Sequence[Item], normal: tuple[float, float], most: float
) -> float:
    """How far from the origin along its normal (x, z) a wall is that stands behind all the items.

    Args:
        most: the mean distance to the items.
    """
    return min(item.least_along(normal) for item in items) - (0.02 + most * rng.standard_exponential())


def wall_at(normal: tuple[float, float], distance: float) -> Wall:
    """The wall so far from the origin along its normal (x, z)."""
    return Wall(vector3((normal[0] * distance, 0.0, normal[1] * distance)), (normal[0], 0.0, normal[1]))


def _hits(item: Item, others: Sequence[Item]) -> bool:
    """Whether the box of an item is in that of another."""
    return any(
        item.bottom < other.top and other.bottom < item.top and footprints_overlap(item, other, gap=0.02)
        for other in others
    )
