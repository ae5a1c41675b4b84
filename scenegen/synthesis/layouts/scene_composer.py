"""Compose furniture scenes: groups of models on a floor, a camera, lights and a room.

Everything is drawn from one ``numpy.random.Generator``, so a seed fixes the scene. Only sizes and classes of
the models are used, no meshes; one scene takes about a millisecond.

Yaw of symmetric models: a model whose mesh repeats every 360/n degrees has n yaws that look the same, so its
pose would be ambiguous. The camera is drawn first; then such a model gets the one of its n yaws whose front
(+Z) is nearest to facing the camera. One that looks the same from everywhere (symmetry 0) faces it exactly.
"""

from __future__ import annotations

import colorsys
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from scenegen.synthesis.layouts.scene_layout import (
    Camera,
    Lighting,
    PlacedObject,
    Room,
    SceneLayout,
    Vector3,
    Wall,
)

SEAT_CATEGORIES = ("Chair", "Pier/Stool")
TABLETOP_CATEGORIES = (
    "Appliance",
    "Electronics",
    "Lighting",
    "Music/sport/toy",
    "Other large",
    "Other small",
    "Plant/vase/decor",
)
_TABLETOP_ONLY_M = 0.42  # such things below this size look lost on a floor
_CONTINUOUS = 0  # symmetry value of a body of revolution


class Model(Protocol):
    """What the composer needs to know of a furniture model."""

    @property
    def id(self) -> str: ...

    @property
    def super_category(self) -> str: ...

    @property
    def tier(self) -> str:
        """floor, small, mounted or flat."""

    @property
    def size_m(self) -> Sequence[float]:
        """Width, height, depth in metres (x, y, z of the y-up mesh)."""

    @property
    def symmetry(self) -> int:
        """Order of the yaw symmetry: 1 none, 2, 4, ..., 0 continuous."""


class CompositionError(RuntimeError):
    """No acceptable scene was found for the models and options given."""


@dataclass(frozen=True)
class ComposerOptions:
    """Ranges the composer draws from; the defaults are those of the test scenes."""

    elevation_deg: tuple[float, float] = (5.0, 50.0)
    fov_deg: tuple[float, float] = (30.0, 70.0)
    fill: tuple[float, float] = (0.78, 0.97)  # part of the half image that the boxes may reach
    min_visible_fraction: float = 0.4  # of sample points in the object's box
    min_extent: float = 0.07  # longest side of the projected box over the image side
    free_yaw_probability: float = 0.25
    scale_jitter: float = 0.0  # sizes are multiplied by up to 1 + this, or divided by it
    stretch_jitter: float = 0.0  # the same for each axis
    mirror_probability: float = 0.0
    max_attempts: int = 60


@dataclass
class _Item:
    """A model being placed: an upright box with a round or rectangular footprint."""

    model: Model
    size: Vector3
    stretch: Vector3
    mirror: bool
    x: float = 0.0
    z: float = 0.0
    bottom: float = 0.0
    yaw: float = 0.0
    carries: list[_Item] = field(default_factory=list)

    @property
    def is_round(self) -> bool:
        return self.model.symmetry == _CONTINUOUS

    @property
    def radius(self) -> float:
        """Radius of a round footprint."""
        return max(self.size[0], self.size[2]) / 2

    @property
    def centre(self) -> Vector3:
        return (self.x, self.bottom + self.size[1] / 2, self.z)

    def offset(self, local_x: float, local_z: float) -> tuple[float, float]:
        """World floor position of a point given in this item's own axes."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + c * local_x + s * local_z, self.z - s * local_x + c * local_z

    def local(self, x: float, z: float) -> tuple[float, float]:
        """Inverse of ``offset``."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        x, z = x - self.x, z - self.z
        return c * x - s * z, s * x + c * z


class ModelPool:
    """Models indexed by the part they can play in a scene; build it once, compose many scenes."""

    def __init__(self, models: Iterable[Model]) -> None:
        """Index the models.

        Raises:
            ValueError: none of them stands on the floor (tier floor, and no small thing for a table).
        """
        self.floor: list[Model] = []
        self.tabletop: list[Model] = []
        self.seats: list[Model] = []
        self.sofas: list[Model] = []
        self.beds: list[Model] = []
        self.dining_tables: list[Model] = []
        self.coffee_tables: list[Model] = []
        self.desks: list[Model] = []
        self.night_stands: list[Model] = []
        for model in models:
            self._add(model)
        if not self.floor:
            raise ValueError("ModelPool: expected models that stand on the floor, got none; check the split")

    def _add(self, model: Model) -> None:
        width, height, depth = model.size_m
        category = model.super_category
        if can_stand_on_support(model):
            self.tabletop.append(model)
            if max(model.size_m) < _TABLETOP_ONLY_M:
                return
        if model.tier != "floor":
            return
        self.floor.append(model)
        if category in SEAT_CATEGORIES:
            self.seats.append(model)
        elif category == "Sofa":
            self.sofas.append(model)
        elif category == "Bed":
            self.beds.append(model)
        elif category == "Table":
            (self.dining_tables if height > 0.6 else self.coffee_tables).append(model)
        elif category == "Cabinet/Shelf/Desk":
            if 0.6 < height < 0.95 and width > 0.9 and depth > 0.45:
                self.desks.append(model)
            elif height < 0.8 and width < 0.75:
                self.night_stands.append(model)


def can_stand_on_support(model: Model) -> bool:
    """True for small items and for lamps, plants and the like that fit on a table."""
    if model.tier == "small":
        return True
    width, height, depth = model.size_m
    fits = height < 0.75 and max(width, depth) < 0.6
    return model.tier == "floor" and model.super_category in TABLETOP_CATEGORIES and fits


def can_carry(model: Model) -> bool:
    """True for tables, desks and low cabinets, whose box top is a usable surface."""
    height = model.size_m[1]
    if model.tier != "floor":
        return False
    return (model.super_category == "Table" and height < 1.15) or (
        model.super_category == "Cabinet/Shelf/Desk" and height < 1.0
    )


def compose(
    rng: np.random.Generator,
    models: Sequence[Model] | ModelPool,
    num_objects: int,
    options: ComposerOptions = ComposerOptions(),
    scene_id: str = "",
) -> SceneLayout:
    """Draw one scene.

    Args:
        rng: the only source of randomness.
        models: the models to choose from (a model may appear more than once). Pass a ``ModelPool`` when
            composing many scenes from the same models.
        num_objects: number of objects, at least 1 (2 to 7 look best).

    Returns:
        A layout without collisions, every object in view and none mostly hidden.

    Raises:
        ValueError: num_objects < 1, or no floor-standing model.
        CompositionError: no acceptable scene in ``options.max_attempts`` tries.
    """
    if num_objects < 1:
        raise ValueError(f"compose: num_objects must be at least 1, got {num_objects}")
    pool = models if isinstance(models, ModelPool) else ModelPool(models)
    for _ in range(options.max_attempts):
        room_yaw = rng.random() * math.tau
        items = _Group(rng, pool, options, room_yaw).build(num_objects)
        if items is None:
            continue
        camera = _find_camera(rng, items, options)
        if camera is None:
            continue
        for item in items:
            item.yaw = symmetric_yaw(item.yaw, item.model.symmetry, item.centre, camera.position)
        return SceneLayout(
            scene_id=scene_id,
            objects=tuple(_placed(item) for item in items),
            camera=camera,
            lighting=_draw_lighting(rng, camera),
            room=_draw_room(rng, items, camera, room_yaw),
        )
    raise CompositionError(
        f"compose {scene_id}: no acceptable scene of {num_objects} objects in {options.max_attempts} tries; "
        "give more models or weaker limits in ComposerOptions"
    )


def symmetric_yaw(yaw: float, symmetry: int, centre: Vector3, camera_position: Vector3) -> float:
    """Pick among the yaws that look the same the one whose front is nearest to facing the camera.

    Args:
        yaw: radians.
        symmetry: n > 1: yaws 360/n degrees apart look the same; 1: none; 0: all look the same.
        centre, camera_position: world positions.

    Returns:
        Yaw in [-pi, pi], at most pi/n from the direction to the camera when n > 1, equal to it when n = 0.
    """
    facing = math.atan2(camera_position[0] - centre[0], camera_position[2] - centre[2])
    if symmetry == _CONTINUOUS:
        return facing
    step = math.tau / symmetry
    from_facing = math.remainder(yaw - facing, step) if symmetry > 1 else yaw - facing
    return math.remainder(facing + from_facing, math.tau)


def footprints_overlap(a: PlacedFootprint, b: PlacedFootprint, gap: float = 0.0) -> bool:
    """True if two footprints are nearer than ``gap`` metres (along a separating axis; exact for discs)."""
    if a.is_round and b.is_round:
        return math.hypot(a.x - b.x, a.z - b.z) < a.radius + b.radius + gap
    if a.is_round or b.is_round:
        disc, box = (a, b) if a.is_round else (b, a)
        local_x, local_z = box.local(disc.x, disc.z)
        outside_x = max(0.0, abs(local_x) - box.size[0] / 2)
        outside_z = max(0.0, abs(local_z) - box.size[2] / 2)
        return math.hypot(outside_x, outside_z) < disc.radius + gap
    return not (_has_separating_axis(a, b, gap) or _has_separating_axis(b, a, gap))


class PlacedFootprint(Protocol):
    """Footprint of an object on the floor; ``_Item`` is one."""

    x: float
    z: float
    yaw: float
    size: Vector3

    @property
    def is_round(self) -> bool: ...

    @property
    def radius(self) -> float: ...

    def local(self, x: float, z: float) -> tuple[float, float]: ...


def _has_separating_axis(a: PlacedFootprint, b: PlacedFootprint, gap: float) -> bool:
    local_x, local_z = a.local(b.x, b.z)
    c, s = abs(math.cos(a.yaw - b.yaw)), abs(math.sin(a.yaw - b.yaw))
    half_x, half_z = b.size[0] / 2, b.size[2] / 2
    return (
        abs(local_x) - a.size[0] / 2 - (c * half_x + s * half_z) >= gap
        or abs(local_z) - a.size[2] / 2 - (s * half_x + c * half_z) >= gap
    )


class _Group:
    """Builds one group of furniture around an anchor at the world origin."""

    def __init__(
        self, rng: np.random.Generator, pool: ModelPool, options: ComposerOptions, room_yaw: float
    ) -> None:
        self.rng = rng
        self.pool = pool
        self.options = options
        self.room_yaw = room_yaw
        self.items: list[_Item] = []
        self.wanted = 0

    def build(self, num_objects: int) -> list[_Item] | None:
        """Place ``num_objects`` items, or return None when one found no place."""
        self.wanted = num_objects
        self._choose(self._arrangements())()
        for _ in range(3 * num_objects):
            if len(self.items) >= num_objects:
                return self.items
            self._add_extra()
        return self.items if len(self.items) == num_objects else None

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

    def _anchor(self, models: Sequence[Model]) -> _Item:
        anchor = self._new(self._choose(models))
        anchor.yaw = self.room_yaw + self._jitter(2)
        self.items.append(anchor)
        return anchor

    def _side_slots(self, table: _Item) -> list[tuple[float, float]]:
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

    def _seat_around(self, table: _Item, slots: Sequence[tuple[float, float]], most: int) -> None:
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
        if supports and self.pool.tabletop and self.rng.random() < 0.5:
            self._put_on(self._choose(supports), self._new(self._choose(self.pool.tabletop)))
            return
        self._put_beside(self._new(self._choose(self.pool.floor)))

    def _put_on(self, support: _Item, item: _Item) -> bool:
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

    def _put_beside(self, item: _Item) -> bool:
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

    def _put(self, item: _Item, x: float, z: float, yaw: float) -> bool:
        """Stand ``item`` on the floor there unless it collides or the group is complete."""
        item.x, item.z, item.yaw = x, z, yaw
        if len(self.items) >= self.wanted or self._collides(item, gap=0.01):
            return False
        self.items.append(item)
        return True

    def _collides(self, item: _Item, gap: float) -> bool:
        return any(footprints_overlap(item, other, gap) for other in self.items if other.bottom == 0.0)

    # -- draws --

    def _new(self, model: Model) -> _Item:
        """Draw size, stretch and mirroring of a copy of ``model``."""
        options = self.options
        scale = self._factor(options.scale_jitter)
        stretch = tuple(self._factor(options.stretch_jitter) for _ in range(3))
        if model.symmetry not in (1, 2):  # keep the symmetry: the same factor on x and z
            stretch = (stretch[0], stretch[1], stretch[0])
        size = tuple(scale * factor * side for factor, side in zip(stretch, model.size_m))
        mirror = options.mirror_probability > 0 and self.rng.random() < options.mirror_probability
        return _Item(model=model, size=size, stretch=stretch, mirror=bool(mirror))

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


# -- camera --

_BOX_CORNERS = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
_BOX_SAMPLES = np.array(
    list(itertools.product((-0.42, 0.0, 0.42), (-0.42, -0.14, 0.14, 0.42), (-0.42, 0.0, 0.42)))
)
_NEAREST_CORNER_M = 0.25
_LOWEST_CAMERA_M = 0.15
_OUTERMOST = 0.98  # part of the half image that corners may reach after the group is moved off the centre
_OFF_CENTRE = 0.4  # part of the room for that move that is used
_OCCLUDER_SHRINK = 0.85  # a box overstates what its furniture hides


def _find_camera(rng: np.random.Generator, items: Sequence[_Item], options: ComposerOptions) -> Camera | None:
    """Draw cameras until one sees every item; None after a few."""
    centres = np.array([item.centre for item in items])
    sizes = np.array([item.size for item in items])
    rotations = _yaw_matrices(np.array([item.yaw for item in items]))
    corners = _box_points(_BOX_CORNERS, centres, sizes, rotations)  # (N, 8, 3)
    samples = _box_points(_BOX_SAMPLES, centres, sizes, rotations)  # (N, P, 3)
    for _ in range(4):
        camera = _draw_camera(rng, corners.reshape(-1, 3), items[0].yaw, options)
        if camera.position[1] < _LOWEST_CAMERA_M or _smallest_extent(camera, corners) < options.min_extent:
            continue
        visible = _visible_fractions(np.asarray(camera.position), samples, centres, sizes, rotations)
        if visible.min() >= options.min_visible_fraction:
            return camera
    return None


def _draw_camera(
    rng: np.random.Generator, corners: np.ndarray, anchor_yaw: float, options: ComposerOptions
) -> Camera:
    """Draw direction and lens, then the nearest place from which all corners (P, 3) are in view."""
    elevation = math.radians(rng.uniform(*options.elevation_deg))
    from_front = rng.normal(0.0, math.radians(45)) if rng.random() < 0.75 else rng.uniform(-math.pi, math.pi)
    azimuth = anchor_yaw + from_front
    fov_deg = rng.uniform(*options.fov_deg)
    level = math.cos(elevation)
    back = np.array([math.sin(azimuth) * level, math.sin(elevation), math.cos(azimuth) * level])  # to camera
    right = np.array([math.cos(azimuth), 0.0, -math.sin(azimuth)])
    up = np.cross(back, right)
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    towards = (corners - centre) @ back
    aside = [(corners - centre) @ axis for axis in (right, up)]
    half_image = math.tan(math.radians(fov_deg) / 2)
    near_reach = half_image * rng.uniform(*options.fill)
    distance = towards.max() + _NEAREST_CORNER_M
    for offsets in aside:
        # A corner is in view from the shift s when |offset - s| <= reach * (distance - towards).
        least, most = (offsets / near_reach + towards).max(), (towards - offsets / near_reach).max()
        distance = max(distance, (least + most) / 2)
    target = centre.copy()
    for axis, offsets in zip((right, up), aside):
        reach = half_image * _OUTERMOST
        low = (offsets - reach * (distance - towards)).max()
        high = (offsets + reach * (distance - towards)).min()
        target += ((low + high) / 2 + (high - low) / 2 * rng.uniform(-_OFF_CENTRE, _OFF_CENTRE)) * axis
    return Camera(position=_floats(target + distance * back), target=_floats(target), fov_deg=float(fov_deg))


def _smallest_extent(camera: Camera, corners: np.ndarray) -> float:
    """Longest side of each projected box over the image side, smallest over the items; corners (N, 8, 3)."""
    extrinsics = camera.extrinsics()
    seen = corners @ extrinsics[:3, :3].T + extrinsics[:3, 3]
    image = seen[..., :2] / (seen[..., 2:] * 2 * math.tan(math.radians(camera.fov_deg) / 2))
    return float((image.max(axis=1) - image.min(axis=1)).max(axis=1).min())


def _visible_fractions(
    eye: np.ndarray, samples: np.ndarray, centres: np.ndarray, sizes: np.ndarray, rotations: np.ndarray
) -> np.ndarray:
    """Part of each item's sample points (N, P, 3) not behind another item's (shrunk) box; returns (N,)."""
    count, per_item = samples.shape[:2]
    scale = 2.0 / (_OCCLUDER_SHRINK * sizes)  # box-local coordinates with the box as [-1, 1]^3
    starts = np.einsum("bji,bj->bi", rotations, eye - centres) * scale  # (B, 3)
    ends = np.einsum("bji,pbj->pbi", rotations, samples.reshape(-1, 1, 3) - centres) * scale  # (N*P, B, 3)
    steps = ends - starts
    steps[np.abs(steps) < 1e-9] = 1e-9
    first, second = (-1.0 - starts) / steps, (1.0 - starts) / steps
    enter = np.minimum(first, second).max(axis=-1)
    leave = np.maximum(first, second).min(axis=-1)
    blocked = ((enter < leave) & (leave > 0) & (enter < 1.0)).reshape(count, per_item, count)
    blocked[np.arange(count), :, np.arange(count)] = False
    return 1.0 - blocked.any(axis=2).mean(axis=1)


def _box_points(
    unit_points: np.ndarray, centres: np.ndarray, sizes: np.ndarray, rotations: np.ndarray
) -> np.ndarray:
    """Map points of the unit box (P, 3) into each item's box; returns (N, P, 3)."""
    return np.einsum("nij,npj->npi", rotations, unit_points[None] * sizes[:, None]) + centres[:, None]


def _yaw_matrices(yaws: np.ndarray) -> np.ndarray:
    matrices = np.zeros((len(yaws), 3, 3))
    matrices[:, 0, 0] = matrices[:, 2, 2] = np.cos(yaws)
    matrices[:, 0, 2] = np.sin(yaws)
    matrices[:, 2, 0] = -np.sin(yaws)
    matrices[:, 1, 1] = 1.0
    return matrices


# -- light and room --


def _draw_lighting(rng: np.random.Generator, camera: Camera) -> Lighting:
    """Draw a sun that is rarely behind the scene."""
    behind_camera = math.atan2(camera.position[0] - camera.target[0], camera.position[2] - camera.target[2])
    azimuth = behind_camera + rng.normal(0.0, math.radians(50))
    elevation = math.radians(rng.uniform(30, 75))
    direction = (
        math.sin(azimuth) * math.cos(elevation),
        math.sin(elevation),
        math.cos(azimuth) * math.cos(elevation),
    )
    return Lighting(
        sun_direction=direction,
        sun_strength=float(rng.uniform(0.25, 0.6)),
        ambient_strength=float(rng.uniform(0.5, 0.75)),
    )


def _draw_room(rng: np.random.Generator, items: Sequence[_Item], camera: Camera, room_yaw: float) -> Room:
    """Draw colours and up to two walls behind the items as the camera sees them."""
    return Room(
        floor_colour=_draw_colour(rng, hue=(0.03, 0.14), saturation=(0.0, 0.5), value=(0.3, 0.85)),
        wall_colour=_draw_colour(rng, hue=(0.0, 1.0), saturation=(0.0, 0.25), value=(0.75, 1.0)),
        walls=_draw_walls(rng, items, camera, room_yaw),
    )


def _draw_walls(
    rng: np.random.Generator, items: Sequence[_Item], camera: Camera, room_yaw: float
) -> tuple[Wall, ...]:
    directions = [room_yaw + quarter * math.pi / 2 for quarter in range(4)]
    normals = [(math.sin(direction), math.cos(direction)) for direction in directions]  # (x, z)
    towards = (camera.position[0] - camera.target[0], camera.position[2] - camera.target[2])
    normals.sort(key=lambda n: -(n[0] * towards[0] + n[1] * towards[1]))
    walls = []
    for normal in normals[: int(rng.choice(3, p=(0.3, 0.35, 0.35)))]:
        behind = min(_least_along(item, normal) for item in items) - (0.02 + 0.3 * rng.standard_exponential())
        if normal[0] * camera.position[0] + normal[1] * camera.position[2] > behind + 0.2:
            point = _floats((normal[0] * behind, 0.0, normal[1] * behind))
            walls.append(Wall(point, (normal[0], 0.0, normal[1])))
    return tuple(walls)


def _least_along(item: _Item, normal: tuple[float, float]) -> float:
    """Smallest coordinate of the item's footprint along a horizontal unit direction (x, z)."""
    along_x = normal[0] * math.cos(item.yaw) - normal[1] * math.sin(item.yaw)
    along_z = normal[0] * math.sin(item.yaw) + normal[1] * math.cos(item.yaw)
    half = (abs(along_x) * item.size[0] + abs(along_z) * item.size[2]) / 2
    return normal[0] * item.x + normal[1] * item.z - half


def _draw_colour(
    rng: np.random.Generator,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Vector3:
    return colorsys.hsv_to_rgb(*(float(rng.uniform(*bounds)) for bounds in (hue, saturation, value)))


def _placed(item: _Item) -> PlacedObject:
    return PlacedObject(
        model_id=item.model.id,
        centre=_floats(item.centre),
        yaw=float(item.yaw),
        size_m=float(max(item.size)),
        stretch=item.stretch,
        mirror=item.mirror,
    )


def _floats(values: Iterable[float]) -> Vector3:
    x, y, z = (float(value) for value in values)
    return x, y, z
