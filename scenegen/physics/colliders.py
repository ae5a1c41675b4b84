"""Convex parts of objects, by which physics engines tell what touches what.

Engines need convex shapes. An object's solid is simplified, then cut into convex parts (CoACD), of which
those are joined whose common hull adds the least space. The cut may leave out what is thin and low, so that a
chair would stand on two legs; each foot gets a pad of its own: the convex hull of what the object has in its
lowest layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fast_simplification
import numpy as np
import trimesh

from scenegen.physics.packages import check_packages
from trellis_modules.postprocess import remesh_solid
from trellis_modules.representations.mesh.triangle_arrays import weld

MAX_PARTS, MAX_PART_VERTICES = 32, 64

_FACES = 800  # of the solid that is cut into parts
_CONCAVITY = 0.12  # how far a part may be from its hull; at 0.06 generated objects take many times as long
_SAMPLES = 100  # on a part, by which that distance is measured
_BESIDE = 0.02  # of the longest side: parts that are farther apart are not joined
_SEARCH_WIDTH, _SEARCH_STEPS, _SEARCH_DEPTH = 10, 20, 2  # of cuts; the defaults take five times as long
_FOOT_SHARE = 0.025  # of the height: the layer whose pieces are feet
_MOST_FEET = 8
_OPEN_RESOLUTION, _OPEN_FACES = 96, 4000  # of the solid around a mesh that is not closed
_MIN_VOLUME = 1e-7  # of the cubed longest side
_MIN_PART_VOLUME = 1e-8  # of the cubed longest side: flatter hulls have no inside
_FIRST_TOLERANCE = 2e-4  # of the longest side, for the corners of a foot, doubled until they are few enough


class NoVolume(ValueError):
    """A mesh that encloses nothing, so that it has no mass."""


@dataclass(frozen=True)
class Collider:
    """An object as physics sees it, in the frame and units of the mesh that it was made of.

    Attributes:
        parts: vertices (V, 3) float64 of convex parts, at most 64 each; the parts are their hulls.
        volume: of the solid.
        centre: (3,) centre of mass at equal density.
        inertia: (3, 3) about the centre for a density of one.
    """

    parts: tuple[np.ndarray, ...]
    volume: float
    centre: np.ndarray
    inertia: np.ndarray


def collider_of(mesh: trimesh.Trimesh, name: str = "object") -> Collider:
    """Make the collider of an object.

    Args:
        mesh: y up. One that is not closed counts as the solid that its shell encloses.
        name: of the object, for messages.

    Raises:
        NoVolume: the mesh encloses nothing.
        PhysicsUnavailable: a package is missing.
    """
    check_packages()
    given = np.asarray(mesh.vertices, np.float64)
    side = float(np.ptp(given, axis=0).max()) if len(given) else 0.0
    vertices, faces = np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    if side > 0:
        welded, corners, _ = weld(given / side, np.asarray(mesh.faces))
        vertices, faces = remesh_solid(welded, corners, resolution=_OPEN_RESOLUTION, num_faces=_OPEN_FACES)
        vertices = vertices.astype(np.float64)
    exact = trimesh.Trimesh(vertices, faces, process=False)
    if not len(faces) or exact.volume <= _MIN_VOLUME:
        raise NoVolume(
            f"{name}: expected a mesh that encloses a volume, got {len(mesh.faces)} faces around none; "
            "leave the object out"
        )
    solid = _manifold(vertices, faces)
    parts = _convex_parts(*_simplified(vertices, faces))
    parts += _feet(solid) if solid is not None else []
    parts = parts or [hull(vertices)[0]]
    return Collider(
        parts=tuple(side * part for part in parts[:MAX_PARTS]),
        volume=float(exact.volume) * side**3,
        centre=np.asarray(exact.center_mass, np.float64) * side,
        inertia=np.asarray(exact.moment_inertia, np.float64) * side**5,
    )


def hull(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (V, 3) and outward faces (F, 3) of the convex hull of points."""
    found = _hull_of(points).to_mesh64()
    return np.asarray(found.vert_properties, np.float64)[:, :3], np.asarray(found.tri_verts, np.int64)


def _manifold(vertices: np.ndarray, faces: np.ndarray):  # noqa: ANN202  (types of an optional package)
    """The solid for cuts by planes; None where the library refuses the mesh."""
    import manifold3d

    solid = manifold3d.Manifold(manifold3d.Mesh64(vertices, faces.astype(np.uint64)))
    return None if solid.is_empty() or solid.status() != manifold3d.Error.NoError else solid


def _simplified(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A solid with few faces; as it is where that would not leave a solid."""
    if len(faces) <= _FACES:
        return vertices, faces
    fewer, kept = fast_simplification.simplify(vertices.astype(np.float32), faces, target_count=_FACES)
    fewer = fewer.astype(np.float64)
    return (vertices, faces) if _manifold(fewer, kept) is None else (fewer, kept)


def _convex_parts(vertices: np.ndarray, faces: np.ndarray) -> list[np.ndarray]:
    """Cut a solid of unit size into convex parts, largest first."""
    import coacd

    coacd.set_log_level("error")
    cut = coacd.run_coacd(
        coacd.Mesh(vertices, np.asarray(faces, np.int32)),
        threshold=_CONCAVITY,
        merge=False,  # CoACD's own way is slow, keeps more empty space, and has crashed on uneven objects
        resolution=_SAMPLES,
        preprocess_mode="off",
        decimate=True,
        max_ch_vertex=MAX_PART_VERTICES,
        mcts_nodes=_SEARCH_WIDTH,
        mcts_iterations=_SEARCH_STEPS,
        mcts_max_depth=_SEARCH_DEPTH,
        seed=0,
    )
    parts = [np.asarray(corners, np.float64) for corners, _ in cut]
    parts = [part for part in parts if _hull_volume(part) > _MIN_PART_VOLUME]
    return sorted(joined_parts(parts, MAX_PARTS - _MOST_FEET), key=_hull_volume, reverse=True)


def joined_parts(parts: Sequence[np.ndarray], count: int) -> list[np.ndarray]:
    """Join convex parts two by two, where the hull of both adds the least space, until they are few enough.

    Args:
        parts: corners (V, 3) of each, of an object of unit size.
        count: how many may be left; more stay where what is left lies too far apart.

    Returns:
        The corners of the parts that are left, at most `MAX_PART_VERTICES` of those that were joined.
    """
    alive = {number: (part, _hull_volume(part)) for number, part in enumerate(parts)}
    pairs: dict[tuple[int, int], tuple[float, Any]] = {}

    def add_pairs(number: int, others: Sequence[int]) -> None:
        part, volume = alive[number]
        for other in others:
            beside, its_volume = alive[other]
            gaps = np.maximum(part.min(axis=0) - beside.max(axis=0), beside.min(axis=0) - part.max(axis=0))
            if gaps.max() <= _BESIDE:
                both = _hull_of(np.concatenate([part, beside]))
                pairs[other, number] = both.volume() - volume - its_volume, both

    for number in alive:
        add_pairs(number, range(number))
    while len(alive) > count and pairs:
        pair = min(pairs, key=lambda each: pairs[each][0])
        both = pairs[pair][1]
        number = max(alive) + 1
        for gone in pair:
            del alive[gone]
        pairs = {key: value for key, value in pairs.items() if not set(key) & set(pair)}
        others = list(alive)
        alive[number] = _few_vertices(both), both.volume()
        add_pairs(number, others)
    return [part for part, _ in alive.values()]


def _hull_of(points: np.ndarray):  # noqa: ANN202
    import manifold3d

    return manifold3d.Manifold.hull_points(points)


def _hull_volume(points: np.ndarray) -> float:
    return _hull_of(points).volume()


def _feet(solid) -> list[np.ndarray]:  # noqa: ANN001
    """Hulls of the pieces that an object has in its lowest layer, largest first."""
    _, low, _, _, high, _ = solid.bounding_box()
    layer = solid.trim_by_plane((0.0, -1.0, 0.0), -(low + _FOOT_SHARE * (high - low)))
    hulls = [piece.hull() for piece in layer.decompose()]
    hulls = sorted(hulls, key=lambda hull: hull.volume(), reverse=True)[:_MOST_FEET]
    return [_few_vertices(hull) for hull in hulls if hull.volume() > _MIN_PART_VOLUME]


def _few_vertices(hull) -> np.ndarray:  # noqa: ANN001
    tolerance = _FIRST_TOLERANCE
    while hull.num_vert() > MAX_PART_VERTICES:
        hull = hull.simplify(tolerance).hull()
        tolerance *= 2
    return np.asarray(hull.to_mesh64().vert_properties, np.float64)[:, :3]
