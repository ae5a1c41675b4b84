"""Loose pieces of an object, which would fall off: joined to it, or left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from scenegen.physics.pieces import piece_labels, surface_points
from scenegen.refinement.parts import joined_meshes, prism, rebuilt
from trellis_modules.representations.mesh.triangle_arrays import triangle_areas

_CRUMB = 0.003  # of the surface: too small to be a part of the object ...
_LEAF_CRUMB = 0.0003  # ... or of one that is made of pieces
_MOST_DROPPED = 0.1  # of the surface: an object that would lose more is made of pieces, as a plant of leaves
_SMALL = 0.05  # of the surface: left out where the gap is not thin
_THIN_GAP = 0.05  # of the longest side: across which a small piece is drawn to the rest
_WIDEST_GAP = 0.25  # across which a large piece is drawn to the rest; a bar joins farther ones
_FOOT = 0.03  # of the longest side: a piece that ends no higher above the lowest point holds the object up
_SPACING = 0.02  # of the longest side: between the points at which gaps are measured
_BITE = 0.01  # of the longest side: how far a joined piece goes into the object
_BAR = 0.025  # of the longest side: width of a bar between pieces


@dataclass(frozen=True)
class TidiedPieces:
    """An object whose pieces were looked at.

    Attributes:
        mesh: the one given where nothing was changed.
        joined, dropped: how many pieces were joined, or left out.
    """

    mesh: trimesh.Trimesh
    joined: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class _Gap:
    """Between a piece and what is joined so far: its width and the points at its two sides."""

    width: float
    start: np.ndarray  # of the piece
    end: np.ndarray


def tidy_pieces(mesh: trimesh.Trimesh) -> TidiedPieces:
    """Join the loose pieces of an object to its largest one, or leave them out.

    The nearest piece comes first. It is joined by drawing its near end across the gap and a little into the
    object, while its far end stays where it is: the foot of a leg stays on the floor. A bar joins what is far
    away: thin parts are the first that get lost. Crumbs are left out, and so are small pieces behind a gap
    that is not thin, but for those that the object stands on. An object that would lose much that way is made
    of pieces and keeps them, each joined by a bar.

    Args:
        mesh: object frame, any unit.
    """
    vertices, faces = np.array(mesh.vertices, np.float64), np.asarray(mesh.faces)
    labels = piece_labels(vertices, faces)
    numbers = np.unique(labels[labels >= 0])
    if len(numbers) < 2:
        return TidiedPieces(mesh)
    areas = triangle_areas(vertices, faces)
    shares = {int(number): float(areas[labels == number].sum() / areas.sum()) for number in numbers}
    tidied, lost = _joined(mesh, labels, shares, may_drop=True)
    return tidied if lost <= _MOST_DROPPED else _joined(mesh, labels, shares, may_drop=False)[0]


def _joined(
    mesh: trimesh.Trimesh, labels: np.ndarray, shares: Mapping[int, float], *, may_drop: bool
) -> tuple[TidiedPieces, float]:
    """The object in one piece, and the share of its surface that was left out.

    Args:
        labels: (F,) piece of each face.
        shares: of the surface, by piece.
        may_drop: whether small pieces that are not near may be left out.
    """
    vertices, faces = np.array(mesh.vertices, np.float64), np.asarray(mesh.faces)
    side = float(np.ptp(vertices[faces], axis=(0, 1)).max())
    floor = float(vertices[faces][..., 1].min()) + _FOOT * side
    main = max(shares, key=shares.__getitem__)
    crumb = _CRUMB if may_drop else _LEAF_CRUMB
    surfaces = {
        number: surface_points(vertices, faces[labels == number], _SPACING * side)[0]
        for number in shares
        if number == main or shares[number] >= crumb
    }
    body, kept = surfaces.pop(main), labels == main
    stands = float(body[:, 1].min()) <= floor
    gaps = {number: _gap(points, body) for number, points in surfaces.items()}
    bars: list[np.ndarray] = []
    while gaps:  # the nearest one first: others may hang on it
        number = min(gaps, key=lambda each: gaps[each].width)
        gap, points = gaps.pop(number), surfaces[number]
        is_small = shares[number] < _SMALL
        is_foot = not stands and float(points[:, 1].min()) <= floor
        if gap.width > (_THIN_GAP if is_small else _WIDEST_GAP) * side:
            if is_small and may_drop and not is_foot:
                continue
            bars.append(_bar(gap, _BITE * side))
        elif gap.width > 0:
            own = np.unique(faces[labels == number])
            vertices[own] = _drawn(vertices[own], gap, _BITE * side)
            points = _drawn(points, gap, _BITE * side)
        kept |= labels == number
        for other, before in gaps.items():
            gaps[other] = min(before, _gap(surfaces[other], points), key=lambda each: each.width)
    made = rebuilt(mesh, vertices, faces[kept], np.arange(len(vertices)))
    if bars:
        made = joined_meshes([made, *(prism(mesh, ends, _BAR * side) for ends in bars)], mesh)
    joined = len(np.unique(labels[kept])) - 1
    lost = sum(share for number, share in shares.items() if not (kept & (labels == number)).any())
    return TidiedPieces(made, joined, len(shares) - 1 - joined), lost


def _gap(piece: np.ndarray, body: np.ndarray) -> _Gap:
    """Between two sets of points."""
    distances, nearest = cKDTree(body).query(piece)
    first = int(distances.argmin())
    return _Gap(float(distances[first]), piece[first], body[nearest[first]])


def _bar(gap: _Gap, bite: float) -> np.ndarray:
    """Ends (2, 3) of a bar across a gap, a little inside of what it joins; the second one is in the piece."""
    direction = (gap.start - gap.end) / gap.width
    return np.stack([gap.end - bite * direction, gap.start + bite * direction])


def _drawn(piece: np.ndarray, gap: _Gap, bite: float) -> np.ndarray:
    """A piece (V, 3) whose near end is drawn across a gap and on by ``bite``; its far end stays.

    A piece that is shorter than this way moves as a whole.
    """
    length = gap.width
    direction = (gap.end - gap.start) / length
    along = (piece - gap.start) @ direction  # 0 at the near end, negative beyond
    extent = -float(along.min())
    share = np.ones(len(piece)) if extent <= length + bite else np.clip(1 + along / extent, 0, 1)
    return piece + share[:, None] * direction * (length + bite)
