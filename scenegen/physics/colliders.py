"""Convex parts of objects, by which physics engines tell what touches what.

Engines need convex shapes. An object's solid is simplified, then cut into few convex parts. The cut may
leave out what is thin and low, so that a chair would stand on two legs; each foot gets a pad of its own:
the convex hull of what the object has in its lowest layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import fast_simplification
import numpy as np
import trimesh

from scenegen.physics.convex_parts import convex_parts, few_corners, hull_of
from scenegen.physics.packages import check_packages
from trellis_modules.postprocess import remesh_solid
from trellis_modules.representations.mesh.triangle_arrays import weld

MAX_PARTS, MAX_PART_VERTICES = 32, 64

_FACES = 500  # of the solid that is cut into parts
_FOOT_SHARE = 0.025  # of the height: the layer whose pieces are feet
_MOST_FEET = 8
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
    parts: list[np.ndarray] = []
    if (simple := _manifold(*_simplified(vertices, faces))) is not None:
        parts = convex_parts(simple, MAX_PARTS - _MOST_FEET, MAX_PART_VERTICES)
    if (solid := _manifold(vertices, faces)) is not None:
        parts += _feet(solid)
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


def _feet(solid) -> list[np.ndarray]:  # noqa: ANN001
    """Hulls of the pieces that an object has in its lowest layer, largest first."""
    _, low, _, _, high, _ = solid.bounding_box()
    layer = solid.trim_by_plane((0.0, -1.0, 0.0), -(low + _FOOT_SHARE * (high - low)))
    hulls = [piece.hull() for piece in layer.decompose()]
    hulls = sorted(hulls, key=lambda hull: hull.volume(), reverse=True)[:_MOST_FEET]
    return [few_corners(hull, MAX_PART_VERTICES) for hull in hulls if hull.volume() > _MIN_PART_VOLUME]
