"""A solid cut into few convex parts, by planes along its axes.

The part whose hull holds the most space that is not the solid's is cut where the hulls of what comes of
it hold the least, and a hollow one through its middle. Then parts are joined two by two, where the hull
of both adds the least space, until they are few. A cut is exact, of a closed surface (manifold3d), so that
uneven objects are no harder than others.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

_MOST_CUT = 48  # parts, before some are joined
_CONVEX = 0.001  # of the hull of the solid: a part with less empty space in its hull is left whole
_HOLLOW = 0.02  # of the hull of the solid: a part with more empty space is cut though that frees none at once
_PLANES = 5  # tried along each axis at first ...
_HALVINGS = 2  # ... then between the best one and those beside it
_LEAST_GAIN = 0.01  # of the empty space of a part; a cut that frees less is not made
_THINNEST = 0.004  # of the longest side: between planes
_BESIDE = 0.02  # of the longest side: parts that are farther apart are not joined
_MIN_VOLUME = 1e-8  # of the cubed longest side: flatter hulls have no inside
_FIRST_TOLERANCE = 2e-4  # of the longest side, for the corners of a part, doubled until they are few enough

Solid = Any
"""``manifold3d.Manifold``, of an optional package."""


def hull_of(points: np.ndarray) -> Solid:
    """The convex hull of points (N, 3)."""
    import manifold3d

    return manifold3d.Manifold.hull_points(points)


def convex_parts(solid: Solid, count: int, corners: int) -> list[np.ndarray]:
    """Cut a solid of unit size into convex parts.

    Args:
        solid: closed.
        count: how many parts at most, unless what is left lies too far apart.
        corners: of each part, at most.

    Returns:
        Corners (V, 3) float64 of each part, largest first.
    """
    parts = [part.hull() for part in _cut(solid)]
    return [few_corners(part, corners) for part in joined_parts(parts, count)]


def joined_parts(parts: Sequence[Solid], count: int) -> list[Solid]:
    """Join convex solids of an object of unit size until they are at most ``count``; largest first."""
    alive, numbers = dict(enumerate(parts)), itertools.count(len(parts))
    pairs: dict[tuple[int, int], tuple[float, Solid]] = {}

    def add_pairs(number: int, others: Sequence[int]) -> None:
        for other in others:
            one, two = alive[other], alive[number]
            if _gap(one, two) <= _BESIDE:
                both = (one + two).hull()
                pairs[other, number] = both.volume() - one.volume() - two.volume(), both

    for number in alive:
        add_pairs(number, range(number))
    while len(alive) > count and pairs:
        pair = min(pairs, key=lambda each: pairs[each][0])
        both = pairs[pair][1]
        for gone in pair:
            del alive[gone]
        pairs = {key: value for key, value in pairs.items() if not set(key) & set(pair)}
        number, others = next(numbers), list(alive)
        alive[number] = both
        add_pairs(number, others)
    return sorted(alive.values(), key=lambda part: part.volume(), reverse=True)


def few_corners(part: Solid, count: int) -> np.ndarray:
    """Corners (V, 3) float64 of a convex solid, simplified until they are at most ``count``."""
    tolerance = _FIRST_TOLERANCE
    while part.num_vert() > count:
        part = part.simplify(tolerance).hull()
        tolerance *= 2
    return np.asarray(part.to_mesh64().vert_properties, np.float64)[:, :3]


def _cut(solid: Solid) -> list[Solid]:
    """Parts of a solid that are almost convex, or so many that it is enough."""
    least, hollow, whole = _CONVEX * solid.hull().volume(), _HOLLOW * solid.hull().volume(), []
    parts = [(_empty(part), part) for part in _pieces(solid)]
    while parts and len(parts) + len(whole) < _MOST_CUT:
        worst = max(range(len(parts)), key=lambda row: parts[row][0])
        empty, part = parts.pop(worst)
        halves = _best_cut(part) if empty > least else None
        if halves is not None and _hulls(halves) > part.hull().volume() - _LEAST_GAIN * empty:
            halves = _middle_cut(part) if empty > hollow else None
        if halves is None:
            whole.append(part)
        else:
            parts += [(_empty(half), half) for half in halves]
    return [*whole, *(part for _, part in parts)]


def _best_cut(solid: Solid) -> list[Solid] | None:
    """What comes of the best plane; None where the solid is too thin for one."""
    box = np.array(solid.bounding_box()).reshape(2, 3)
    steps = (box[1] - box[0]) / (_PLANES + 1)
    planes = [
        (axis, box[0, axis] + place * steps[axis])
        for axis in range(3)
        if steps[axis] >= _THINNEST
        for place in range(1, _PLANES + 1)
    ]
    found = [(_halves(solid, axis, offset), axis, offset) for axis, offset in planes]
    found = [each for each in found if len(each[0]) > 1]
    if not found:
        return None
    best = min(found, key=lambda each: _hulls(each[0]))
    step = steps[best[1]]
    for _ in range(_HALVINGS):
        step /= 2
        _, axis, offset = best
        beside = [(_halves(solid, axis, offset + shift), axis, offset + shift) for shift in (-step, step)]
        best = min([best, *(each for each in beside if len(each[0]) > 1)], key=lambda each: _hulls(each[0]))
    return best[0]


def _middle_cut(solid: Solid) -> list[Solid] | None:
    """The halves of a solid along its longest side; None where that leaves it whole.

    Whatever wall is cut off a hollow box, the hull of the rest is as large as before; its eighths are not.
    """
    box = np.array(solid.bounding_box()).reshape(2, 3)
    axis = int(np.argmax(box[1] - box[0]))
    halves = _halves(solid, axis, float(box[:, axis].mean()))
    return halves if len(halves) > 1 else None


def _halves(solid: Solid, axis: int, offset: float) -> list[Solid]:
    normal = [0.0, 0.0, 0.0]
    normal[axis] = 1.0
    return [piece for half in solid.split_by_plane(normal, offset) for piece in _pieces(half)]


def _pieces(solid: Solid) -> list[Solid]:
    return [piece for piece in solid.decompose() if piece.volume() > _MIN_VOLUME]


def _empty(solid: Solid) -> float:
    return solid.hull().volume() - solid.volume()


def _hulls(solids: Sequence[Solid]) -> float:
    return sum(solid.hull().volume() for solid in solids)


def _gap(one: Solid, two: Solid) -> float:
    """Between the boxes of two solids; negative where they overlap."""
    first, second = (np.array(each.bounding_box()).reshape(2, 3) for each in (one, two))
    return float(np.maximum(first[0] - second[1], second[0] - first[1]).max())
