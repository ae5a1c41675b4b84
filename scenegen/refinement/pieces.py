"""Loose pieces of an object, which would fall off: joined to it where the gap is thin, or left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from scenegen.physics.pieces import piece_labels, surface_points
from scenegen.refinement.parts import rebuilt
from trellis_modules.representations.mesh.triangle_arrays import triangle_areas

_CRUMB = 0.003  # of the surface: too small to be a part of the object
_MOST_DROPPED = 0.1  # of the surface: an object that would lose more is made of pieces, as a plant of leaves
_SMALL = 0.05  # of the surface: left out where the gap is not thin
_THIN_GAP = 0.05  # of the longest side
_WIDEST_GAP = 0.25  # across which a large piece is joined; farther ones stay where they are
_SPACING = 0.02  # of the longest side: between the points at which gaps are measured
_BITE = 0.01  # of the longest side: how far a joined piece goes into the object


@dataclass(frozen=True)
class TidiedPieces:
    """An object whose pieces were looked at.

    Attributes:
        mesh: the one given where nothing was changed.
        joined, dropped, left: how many pieces were joined, left out, or are still loose.
    """

    mesh: trimesh.Trimesh
    joined: int = 0
    dropped: int = 0
    left: int = 0


def tidy_pieces(mesh: trimesh.Trimesh) -> TidiedPieces:
    """Join the loose pieces of an object to its largest one, or leave them out.

    A piece is joined by drawing its near end across the gap and a little into the object, while its far end
    stays where it is: the foot of a leg stays on the floor. Crumbs are left out, and so are small pieces
    behind a gap that is not thin.

    Args:
        mesh: object frame, any unit.
    """
    vertices, faces = np.array(mesh.vertices, np.float64), np.asarray(mesh.faces)
    labels = piece_labels(vertices, faces)
    numbers = np.unique(labels[labels >= 0])
    if len(numbers) < 2:
        return TidiedPieces(mesh)
    side = float(np.ptp(vertices[faces], axis=(0, 1)).max())
    areas = triangle_areas(vertices, faces)
    shares = {int(number): float(areas[labels == number].sum() / areas.sum()) for number in numbers}
    main = max(shares, key=shares.__getitem__)
    surfaces = {
        number: surface_points(vertices, faces[labels == number], _SPACING * side)[0]
        for number in shares
        if number == main or shares[number] >= _CRUMB
    }
    body, kept = surfaces.pop(main), labels == main
    joined, left, dropped = 0, 0, len(shares) - 1 - len(surfaces)
    while surfaces:  # the nearest one first: others may hang on it
        gaps = {number: _gap(points, body) for number, points in surfaces.items()}
        number = min(gaps, key=lambda each: gaps[each][0])
        (gap, start, end), points = gaps[number], surfaces.pop(number)
        if gap > _WIDEST_GAP * side:
            left += 1
        elif gap > _THIN_GAP * side and shares[number] < _SMALL:
            dropped += 1
            continue
        elif gap > 0:
            own = np.unique(faces[labels == number])
            vertices[own] = _drawn(vertices[own], start, end, _BITE * side)
            body = np.concatenate([body, _drawn(points, start, end, _BITE * side)])
            joined += 1
        kept |= labels == number
    if areas[~kept].sum() > _MOST_DROPPED * areas.sum():
        return TidiedPieces(mesh, left=len(shares) - 1)
    made = rebuilt(mesh, vertices, faces[kept], np.arange(len(vertices)))
    return TidiedPieces(made, joined, dropped, left)


def _gap(piece: np.ndarray, body: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Distance of two sets of points, and their nearest points."""
    distances, nearest = cKDTree(body).query(piece)
    first = int(distances.argmin())
    return float(distances[first]), piece[first], body[nearest[first]]


def _drawn(piece: np.ndarray, start: np.ndarray, end: np.ndarray, bite: float) -> np.ndarray:
    """A piece (V, 3) whose point ``start`` is drawn to ``end`` and on by ``bite``; its far end stays.

    A piece that is shorter than this way moves as a whole.
    """
    way = end - start
    length = float(np.linalg.norm(way))
    direction = way / length
    along = (piece - start) @ direction  # 0 at the near end, negative beyond
    extent = -float(along.min())
    share = np.ones(len(piece)) if extent <= length + bite else np.clip(1 + along / extent, 0, 1)
    return piece + share[:, None] * direction * (length + bite)
