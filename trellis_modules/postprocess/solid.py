"""Solid objects: closed, oriented outwards, of whole parts, and what is told about them."""

from __future__ import annotations

from dataclasses import dataclass

import fast_simplification
import numpy as np

from trellis_modules.postprocess.face_count import simplify_to
from trellis_modules.postprocess.manifold import make_manifold
from trellis_modules.postprocess.topology import MeshEdges, connected_labels
from trellis_modules.representations.mesh.triangle_arrays import (
    drop_unreferenced,
    triangle_areas,
    unique_rows,
    weld,
)

MIN_PART = 0.005
"""Parts with less than this share of the whole surface are crumbs of the decoder or of simplification."""


@dataclass(frozen=True)
class SolidReport:
    """Whether a mesh can be printed and simulated.

    Attributes:
        watertight: every edge has two faces that agree about what is outside.
        volume: enclosed by the surface, in the cube of the vertices' unit; without meaning where it is open.
        faces: their number.
    """

    watertight: bool
    volume: float
    faces: int


def report_solid(vertices: np.ndarray, faces: np.ndarray) -> SolidReport:
    """Describe a mesh; vertices at equal places, as at the seams of a texture, count as one.

    Args:
        vertices: (V, 3) float.
        faces: (F, 3) int.
    """
    _, corners, _ = weld(vertices, faces.astype(np.int64))
    edges = MeshEdges.of(corners)
    closed = len(corners) == len(faces) > 0 and bool((edges.degree == 2).all())
    sides = np.stack([corners.ravel(), np.roll(corners, -1, axis=1).ravel()], axis=1)
    agree = len(unique_rows(sides)) == len(sides)
    return SolidReport(closed and agree, float(_face_volumes(vertices, faces).sum()), len(faces))


def tidy_solid(
    vertices: np.ndarray, faces: np.ndarray, num_faces: int | None = None, min_part: float = MIN_PART
) -> tuple[np.ndarray, np.ndarray]:
    """Simplify a closed surface and leave a manifold one of whole parts whose faces look outwards.

    Args:
        vertices: (V, 3) float32, all at different places, as `weld` leaves them.
        faces: (F, 3) int, oriented alike. Where they do not close, the result is open too.
        num_faces: about how many to keep; None keeps all.
        min_part: share of the whole area below which a part is dropped, in [0, 1). Parts at least half as
            large as the largest stay, as the leaves of a plant.

    Returns:
        Vertices (W, 3) float32 and faces (G, 3) int64; empty if nothing has a volume.

    Raises:
        ValueError: ``min_part`` is out of range.
    """
    if not 0 <= min_part < 1:
        raise ValueError(f"tidy_solid: expected min_part in [0, 1), got {min_part}")
    if num_faces is not None and num_faces < len(faces):
        vertices, faces = fast_simplification.simplify(
            vertices, faces.astype(np.int32), target_count=num_faces
        )
    vertices, faces = make_manifold(vertices.astype(np.float32), faces)
    if _face_volumes(vertices, faces).sum() < 0:
        faces = faces[:, ::-1]
    return drop_unreferenced(vertices, faces[_whole(vertices, faces, min_part)])


def solid_of_faces(
    vertices: np.ndarray, faces: np.ndarray, num_faces: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """As `tidy_solid`, with a number of faces that is reached closely, see `simplify_to`; None keeps all."""
    if num_faces is None or num_faces >= len(faces):
        return tidy_solid(vertices, faces)
    return simplify_to(vertices, faces.astype(np.int32), num_faces, _tidy_welded)


def _tidy_welded(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`tidy_solid` of what simplification left, which may have brought vertices to one place."""
    return tidy_solid(*weld(vertices.astype(np.float32), faces)[:2])


def _whole(vertices: np.ndarray, faces: np.ndarray, min_part: float) -> np.ndarray:
    """(F,) bool: faces of parts that are large enough, and are no cavity of another part."""
    edges = MeshEdges.of(faces)
    part = connected_labels(edges.adjacent_faces()[0], len(faces))
    area = np.bincount(part, triangle_areas(vertices, faces))
    open_sides = np.bincount(part, (edges.degree[edges.of_face] == 1).sum(axis=1))
    is_cavity = (np.bincount(part, _face_volumes(vertices, faces)) <= 0) & (open_sides == 0)
    return ((area >= min(min_part * area.sum(), area.max(initial=0) / 2)) & ~is_cavity)[part]


def _face_volumes(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Signed volumes (F,) between the faces and the origin; their sum is that of a closed mesh."""
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    return (a * np.cross(b, c)).sum(axis=1) / 6
