"""Groups of furniture about an anchor: a table with chairs, a desk, a lounge, a bedroom, or anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from scenegen.synthesis.layouts.fittings import Fittings
from scenegen.synthesis.layouts.footprints import Item, footprints_overlap
from scenegen.synthesis.layouts.options import ComposerOptions
from scenegen.synthesis.layouts.pool import Model, ModelPool, can_carry


class Group:
    """Builds one group of furniture around an anchor at the world origin."""

    def __init__(
        self, rng: np.random.Generator, pool: ModelPool, options: ComposerOptions, room_yaw: float
    ) -> None:
        self.rng = rng
        self.pool = pool
        self.options = options
        self.room_yaw = room_yaw
        self.items: list[Item] = []
        self.wanted = 0

    def build(self, num_objects: int, fittings: Fittings) -> list[Item] | None:
        """Place ``num_objects`` items, those of the fittings last; None when one found no place."""
        self.wanted = num_objects - fittings.count
        self._choose(self._arrangements())()
        for _ in range(3 * num_objects):
            if len(self.items) >= self.wanted:
                break
            self._add_extra()
        if len(self.items) != self.wanted or not fittings.add(self.items, self._new):
            return None
        return self.items

    # -- arrangements --

    def _arrangements(self) -> list[Callable[[], None]]:
        """The arrangements that the pool has models for."""
        pool = self.pool
        possible: list[Callable[[], None]] = [self._scatter, self._scatter]
        if pool.dining_tables and pool.seats:
            possible.append(self._dining)
        if pool.desks and pool.seats:
            possible.append(self._office)
        if pool.sofas:
            possible.append(self._lounge)
        if pool.beds:
            possible.append(self._bedroom)
        return possible

    def _dining(self) -> None:
        table = self._anchor(self.pool.dining_tables)
        slots = self._round_slots() if table.is_round else self._side_slots(table)
        self._seat_around(table, slots, most=max(1, self.wanted - 1 - int(self.rng.integers(0, 3))))

    def _office(self) -> None:
        desk = self._anchor(self.pool.desks)
        self._seat_around(desk, [(0.0, self._uniform(-0.25, 0.25))], most=1)

    def _lounge(self) -> None:
        sofa = self._anchor(self.pool.sofas)
        centre_z = sofa.size[2] / 2 + 0.6
        if self.pool.coffee_tables and self.rng.random() < 0.8:
            table = self._new(self._choose(self.pool.coffee_tables))
            turn = 0.0 if table.size[0] >= table.size[2] else math.pi / 2
            depth = table.size[2] if turn == 0.0 else table.size[0]
            centre_z = sofa.size[2] / 2 + self._uniform(0.15, 0.5) + depth / 2
            position = sofa.offset(self._uniform(-0.2, 0.2), centre_z)
            self._put(table, *position, sofa.yaw + turn + self._jitter(3))
        if self.pool.seats and self.rng.random() < 0.6:
            side = self._choose((-1, 1))
            seat = self._new(self._choose(self.pool.seats))
            local_x = side * (sofa.size[0] / 2 + self._uniform(0.2, 0.6))
            position = sofa.offset(local_x, centre_z + self._uniform(-0.1, 0.4))
            self._put(seat, *position, sofa.yaw - side * self._uniform(0.6, 1.6))

    def _bedroom(self) -> None:
        bed = self._anchor(self.pool.beds)
        if not self.pool.night_stands:
            return
        model = self._choose(self.pool.night_stands)
        for side in (-1, 1) if self.rng.random() < 0.6 else (self._choose((-1, 1)),):
            stand = self._new(model)
            x = side * (bed.size[0] / 2 + self._gap() + stand.size[0] / 2)
            z = -bed.size[2] / 2 + stand.size[2] / 2 + self._uniform(0.0, 0.1)
            self._put(stand, *bed.offset(x, z), bed.yaw + self._jitter(2))

    def _scatter(self) -> None:
        self._anchor(self.pool.floor)

    # -- steps --

    def _anchor(self, models: Sequence[Model]) -> Item:
        anchor = self._new(self._choose(models))
        anchor.yaw = self.room_yaw + self._jitter(2)
        self.items.append(anchor)
        return anchor

    def _side_slots(self, table: Item) -> list[tuple[float, float]]:
        """Places for seats: (direction about the table in its own axes, shift along that side)."""
        slots = []
        for side in range(4):
            length = table.size[0] if side % 2 == 0 else table.size[2]
            count = max(1, int(length / 0.65))
            slots += [(side * math.pi / 2, ((i + 0.5) / count - 0.5) * length) for i in range(count)]
        self.rng.shuffle(slots)
        return slots

    def _round_slots(self) -> list[tuple[float, float]]:
        start, count = self._uniform(0, math.tau), int(self.rng.integers(2, 7))
        return [(start + math.tau * i / count, 0.0) for i in range(count)]

    def _seat_around(self, table: Item, slots: Sequence[tuple[float, float]], most: int) -> None:
        """Put up to ``most`` seats at the slots, each facing the table."""
        same_model = self._choose(self.pool.seats) if self.rng.random() < 0.7 else None
        for direction, shift in slots[:most]:
            if len(self.items) >= self.wanted:
                return
            seat = self._new(same_model or self._choose(self.pool.seats))
            reach = table.size[2] / 2 if abs(math.sin(direction)) < 0.5 else table.size[0] / 2
            distance = (table.radius if table.is_round else reach) + self._gap() + seat.size[2] / 2
            s, c = math.sin(direction), math.cos(direction)
            x, z = table.offset(s * distance + c * shift, c * distance - s * shift)
            self._put(seat, x, z, table.yaw + direction + math.pi + self._jitter(6))

    def _add_extra(self) -> None:
        """Add one item: on a support when there is one and luck has it, else on the floor by the group."""
        supports = [item for item in self.items if can_carry(item.model)]
        if supports and self.pool.tabletop and self.rng.random() < self.options.carry_probability:
            self._put_on(self._choose(supports), self._new(self._choose(self.pool.tabletop)))
            return
        self._put_beside(self._new(self._choose(self.pool.floor)))

    def _put_on(self, support: Item, item: Item) -> bool:
        """Try to stand ``item`` on top of ``support``."""
        item.bottom = support.bottom + support.size[1]
        item.yaw = support.yaw + (self._jitter(10) if self.rng.random() < 0.6 else self._uniform(0, math.tau))
        reach = math.hypot(item.size[0], item.size[2]) / 2 if not item.is_round else item.radius
        if support.is_round:
            room_x = room_z = support.radius / math.sqrt(2) - reach
        else:
            room_x, room_z = support.size[0] / 2 - reach, support.size[2] / 2 - reach
        if min(room_x, room_z) < 0:
            return False
        for _ in range(6):
            item.x, item.z = support.offset(self._uniform(-room_x, room_x), self._uniform(-room_z, room_z))
            if not any(footprints_overlap(item, other, gap=0.02) for other in support.carries):
                support.carries.append(item)
                self.items.append(item)
                return True
        return False

    def _put_beside(self, item: Item) -> bool:
        """Move ``item`` away from the group's middle in one direction until it touches nothing."""
        if self.rng.random() < self.options.free_yaw_probability:
            item.yaw = self._uniform(0, math.tau)
        else:
            quarter = 0 if self.rng.random() < 0.6 else int(self.rng.integers(0, 4))
            item.yaw = self.room_yaw + quarter * math.pi / 2 + self._jitter(4)
        start = self._choose([other for other in self.items if other.bottom == 0.0])
        direction, gap = self._uniform(0, math.tau), self._gap()
        s, c = math.sin(direction), math.cos(direction)
        distance = 0.5 * (min(item.size[0], item.size[2]) + min(start.size[0], start.size[2]))
        for _ in range(60):
            item.x, item.z = start.x + s * distance, start.z + c * distance
            if not self._collides(item, gap):
                self.items.append(item)
                return True
            distance += 0.08
        return False

    def _put(self, item: Item, x: float, z: float, yaw: float) -> bool:
        """Stand ``item`` on the floor there unless it collides or the group is complete."""
        item.x, item.z, item.yaw = x, z, yaw
        if len(self.items) >= self.wanted or self._collides(item, gap=0.01):
            return False
        self.items.append(item)
        return True

    def _collides(self, item: Item, gap: float) -> bool:
        return any(footprints_overlap(item, other, gap) for other in self.items if other.bottom == 0.0)

    # -- draws --

    def _new(self, model: Model) -> Item:
        """Draw size, stretch and mirroring of a copy of ``model``."""
        options = self.options
        scale = self._factor(options.scale_jitter)
        stretch = tuple(self._factor(options.stretch_jitter) for _ in range(3))
        if model.symmetry not in (1, 2):  # keep the symmetry: the same factor on x and z
            stretch = (stretch[0], stretch[1], stretch[0])
        size = tuple(scale * factor * side for factor, side in zip(stretch, model.size_m))
        mirror = options.mirror_probability > 0 and self.rng.random() < options.mirror_probability
        return Item(model=model, size=size, stretch=stretch, mirror=bool(mirror))

    def _factor(self, jitter: float) -> float:
        if jitter == 0.0:
            return 1.0
        return math.exp(self._uniform(-1, 1) * math.log1p(jitter))

    def _gap(self) -> float:
        """Space between neighbours in metres: mostly small, sometimes tight."""
        return 0.015 if self.rng.random() < 0.2 else 0.02 + 0.12 * self.rng.standard_exponential()

    def _jitter(self, sigma_deg: float) -> float:
        return math.radians(sigma_deg) * self.rng.standard_normal()

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def _choose(self, options: Sequence):
        return options[int(self.rng.integers(len(options)))]
