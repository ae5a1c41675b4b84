"""Convex parts of objects, by which physics engines tell what touches what.

Engines need convex shapes. An object's solid is simplified, then cut into few convex parts. The cut may
leave out what is thin and low, so that a chair would stand on two legs; each foot gets a pad of its own:
the convex hull of what the object has in its lowest layer. Its underside is that of the mesh and not of the
solid around it, which is uneven by a part of a cell: enough to let a slender vase fall over.
"""

from __future__ import annotations

from dataclasses import dataclass

import fast_simplification
import numpy as np
import trimesh

from scenegen.physics.convex_parts import Solid, convex_parts, hull_of
from scenegen.physics.packages import check_packages
from trellis_modules.postprocess import remesh_solid
from trellis_modules.representations.mesh.triangle_arrays import weld

MAX_PARTS, MAX_PART_VERTICES = 32, 64

_FACES = 500  # of the solid that is cut into parts
_FOOT_SHARE = 0.025  # of the height: the layer whose pieces are feet
_MOST_FEET = 8
_EVEN = 1e-4  # of the longest side: what is no higher than that above the lowest point of a foot is flat
_OPEN_RESOLUTION, _OPEN_FACES = 96, 4000  # of the solid around a mesh that is not closed
_MIN_VOLUME = 1e-7  # of the cubed longest side
_MIN_PART_VOLUME = 1e-8  # of the cubed longest side: flatter hulls have no inside


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
    welded, corners = vertices, faces = np.zeros((0, 3)), np.zeros((0, 3), np.int64)
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
    triangles = welded[corners]
    low, high = float(triangles[..., 1].min()), float(triangles[..., 1].max())
    parts: list[np.ndarray] = []
    if (simple := _manifold(*_simplified(vertices, faces))) is not None:
        simple = simple.trim_by_plane((0.0, 1.0, 0.0), low)
        parts = convex_parts(simple, MAX_PARTS - _MOST_FEET, MAX_PART_VERTICES)
    if (solid := _manifold(vertices, faces)) is not None:
        top = low + _FOOT_SHARE * (high - low)
        parts += _feet(solid.trim_by_plane((0.0, -1.0, 0.0), -top), _points_below(triangles, top))
    parts = parts or [hull(vertices)[0]]
    return Collider(
        parts=tuple(side * part for part in parts[:MAX_PARTS]),
        volume=float(exact.volume) * side**3,
        centre=np.asarray(exact.center_mass, np.float64) * side,
        inertia=np.asarray(exact.moment_inertia, np.float64) * side**5,
    )


def hull(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (V, 3) and outward faces (F, 3) of the convex hull of points."""
    found = hull_of(points).to_mesh64()
    return np.asarray(found.vert_properties, np.float64)[:, :3], np.asarray(found.tri_verts, np.int64)


def _manifold(vertices: np.ndarray, faces: np.ndarray) -> Solid | None:
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


def _points_below(triangles: np.ndarray, height: float) -> np.ndarray:
    """Corners (P, 3) of what triangles (F, 3, 3) have below a height."""
    starts, ends = triangles.reshape(-1, 3), np.roll(triangles, -1, axis=1).reshape(-1, 3)
    below = starts[:, 1] <= height
    cut = below != (ends[:, 1] <= height)
    starts_cut, ends_cut = starts[cut], ends[cut]
    share = (height - starts_cut[:, 1]) / (ends_cut[:, 1] - starts_cut[:, 1])
    crossings = starts_cut + share[:, None] * (ends_cut - starts_cut)
    return np.unique(np.concatenate([starts[below], crossings]), axis=0)


def _feet(layer: Solid, points: np.ndarray) -> list[np.ndarray]:
    """Hulls of the pieces that an object has in its lowest layer, largest first.

    Args:
        layer: of the solid.
        points: (P, 3) corners of what the mesh itself has there.
    """
    hulls = [piece.hull() for piece in layer.decompose()]
    hulls = sorted(hulls, key=lambda hull: hull.volume(), reverse=True)[:_MOST_FEET]
    return [_pad(hull, points) for hull in hulls if hull.volume() > _MIN_PART_VOLUME]


def _pad(foot: Solid, points: np.ndarray) -> np.ndarray:
    """Corners (V, 3) of the hull of those of some points (P, 3) that are in a convex solid, or almost.

    Where they enclose nothing, those of the solid are taken. Corners are left out, and none is moved, so that
    a flat underside stays flat.
    """
    shape = foot.to_mesh64()
    corners, sides = np.asarray(shape.vert_properties)[:, :3], np.asarray(shape.tri_verts)
    first, second, third = (corners[sides[:, number]] for number in range(3))
    normals = np.cross(second - first, third - first)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.finfo(float).tiny)
    outside = points @ normals.T - (first * normals).sum(axis=1)
    exact = points[(outside <= 1 / _OPEN_RESOLUTION).all(axis=1)]
    if len(exact) < 4 or hull_of(exact).volume() <= _MIN_PART_VOLUME:
        exact = corners
    count = MAX_PART_VERTICES // 3
    angles = 2 * np.pi / count * np.arange(count)
    around = np.stack([np.cos(angles), np.zeros(count), np.sin(angles)])
    heights = exact[:, 1]
    levels = exact, exact[heights <= heights.min() + _EVEN], exact[heights >= heights.max() - _EVEN]
    outer = [each[np.argmax(each @ around, axis=0)] for each in levels]
    return np.unique(np.concatenate(outer), axis=0)
