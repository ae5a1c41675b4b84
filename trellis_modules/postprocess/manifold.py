"""Closed oriented surfaces whose every edge has two faces and whose every vertex has one fan of faces.

Collapsing edges keeps a closed oriented surface closed and oriented, but pinches it: faces that lie on each
other the other way round, edges of four faces, vertices where two fans meet. Here opposite faces cancel, and
what touches is cut apart so that the material on each side of a pinch keeps its own vertices.

Source: Gueziec et al., "Cutting and Stitching: Converting Sets of Polygons to Manifold Surfaces", IEEE
TVCG 7 (2), 2001; the cut follows the wedges of material around an edge.
"""

from __future__ import annotations

import numpy as np

from trellis_modules.postprocess.topology import MeshEdges, connected_labels
from trellis_modules.representations.mesh.triangle_arrays import drop_unreferenced, row_groups

_GAP = 1e-4  # between vertices that were one; programs that weld do so at 1e-5 or less
_MAX_SHARE = 0.5  # of the way to the middle of the neighbours
_MAX_MOVES = 8
_NO_PARTNER = -1


def make_manifold(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cancel opposite faces and cut a surface apart where it touches itself in a vertex or an edge.

    Args:
        vertices: (V, 3) float, object frame.
        faces: (F, 3) int; sides that no other face runs the other way stay open.

    Returns:
        Vertices (W, 3) of the same type, all at different places, and faces (G, 3) int64.
    """
    vertices, faces = drop_unreferenced(vertices, cancel_opposite_faces(faces.astype(np.int64)))
    partner = _partners(vertices, faces)
    vertices, faces = _cut_fans(vertices, faces, partner)
    vertices, faces = _split_crowded_edges(vertices, faces)
    return _set_apart(vertices, faces), faces


def cancel_opposite_faces(faces: np.ndarray) -> np.ndarray:
    """The faces (F, 3) without those of less than three corners and pairs that differ in their turn only."""
    faces = faces[(faces != np.roll(faces, -1, axis=1)).all(axis=1)]
    ascending = np.sort(faces, axis=1)
    rank = np.argsort(faces, axis=1)
    turned = np.where((rank[:, 1] - rank[:, 0]) % 3 == 1, 1, -1)
    group = row_groups(ascending)
    # The n-th face of one turn goes with the n-th of the other.
    order = np.lexsort((turned, group))
    start = np.searchsorted(group[order] * 2 + (turned[order] > 0), group * 2 + (turned > 0))
    place = np.empty(len(faces), dtype=np.int64)
    place[order] = np.arange(len(faces))
    opposites = np.bincount(group * 2 + (turned > 0), minlength=2 * (int(group.max(initial=-1)) + 1))
    return faces[place - start >= opposites[group * 2 + (turned < 0)]]


def _next_corner(corner: np.ndarray) -> np.ndarray:
    """The corner after each in its face; corners and the sides that begin at them are numbered 3 f + k."""
    return corner - corner % 3 + (corner + 1) % 3


def _partners(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(3F,) the side that continues the surface across each side, or -1.

    At an edge of more than two faces those belong together that bound the same wedge of material.
    """
    edges = MeshEdges.of(faces)
    edge = edges.of_face.ravel()
    forward = faces.ravel() == edges.vertices[edge, 0]
    order = np.argsort(edge, kind="stable")
    begin = np.cumsum(edges.degree) - edges.degree
    partner = np.full(len(edge), _NO_PARTNER)
    two = begin[edges.degree == 2]
    first, second = order[two], order[two + 1]
    opposite = forward[first] != forward[second]
    partner[first[opposite]], partner[second[opposite]] = second[opposite], first[opposite]
    for index in np.flatnonzero(edges.degree > 2):
        sides = order[begin[index] : begin[index] + edges.degree[index]]
        angle = _angles(vertices, faces, edges.vertices[index], sides)
        for opening, closing in _wedges(angle, forward[sides]):
            partner[sides[opening]], partner[sides[closing]] = sides[closing], sides[opening]
    return partner


def _angles(vertices: np.ndarray, faces: np.ndarray, edge: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Angles of the faces with these sides around their common edge, counter-clockwise seen from its end."""
    start, end = vertices[edge].astype(np.float64)
    axis = end - start
    third = vertices[faces.ravel()[_next_corner(_next_corner(sides))]] - start
    across = np.eye(3)[np.abs(axis).argmin()]
    right = np.cross(axis, across)
    up = np.cross(axis, right) / max(np.linalg.norm(axis), 1e-300)
    return np.arctan2(third @ up, third @ right)


def _wedges(angle: np.ndarray, forward: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (backward, forward) of faces around an edge that have material between them.

    Material lies after a backward face and before a forward one, so they pair like brackets around a circle.
    """
    order = np.argsort(angle, kind="stable")
    depth = np.cumsum(np.where(forward[order], -1, 1))
    order = np.roll(order, -(int(depth.argmin()) + 1))
    pairs, open_faces = [], []
    for face in order.tolist():
        if not forward[face]:
            open_faces.append(face)
        elif open_faces:
            pairs.append((open_faces.pop(), face))
    return pairs


def _cut_fans(vertices: np.ndarray, faces: np.ndarray, partner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give each fan of faces that hang together across their sides a vertex of its own."""
    side = np.flatnonzero(partner != _NO_PARTNER)
    across = partner[side]
    pairs = np.concatenate(
        [np.stack([side, _next_corner(across)], axis=1), np.stack([_next_corner(side), across], axis=1)]
    )
    fan = connected_labels(pairs, faces.size)
    _, first = np.unique(fan, return_index=True)
    return vertices[faces.ravel()[first]], fan.reshape(-1, 3)


def _split_crowded_edges(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put a vertex into each pair of faces at an edge that two pairs share, whose ends are fans of both."""
    while True:
        edges = MeshEdges.of(faces)
        crowded = np.flatnonzero(edges.degree[edges.of_face.ravel()] > 2)
        if not len(crowded):
            return vertices, faces
        partner = _partners(vertices, faces)
        taken = np.zeros(len(faces), dtype=bool)
        first, second = [], []
        for side in crowded.tolist():
            other = int(partner[side])
            if other > side and not taken[side // 3] and not taken[other // 3]:
                taken[[side // 3, other // 3]] = True
                first.append(side)
                second.append(other)
        if not first:  # sides without a partner
            return vertices, faces
        vertices, faces = _split_sides(vertices, faces, np.array(first), np.array(second))


def _split_sides(
    vertices: np.ndarray, faces: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Halve the faces at pairs (P,) of sides, each of another two faces, with a vertex in their middle."""
    corner = faces.ravel()
    middle = len(vertices) + np.arange(len(first))
    places = (vertices[corner[first]] + vertices[corner[_next_corner(first)]]) / 2
    halves = []
    for side in (first, second):
        start, end = corner[side], corner[_next_corner(side)]
        third = corner[_next_corner(_next_corner(side))]
        halves += [np.stack([start, middle, third], axis=1), np.stack([middle, end, third], axis=1)]
    stays = np.ones(len(faces), dtype=bool)
    stays[first // 3] = stays[second // 3] = False
    return np.concatenate([vertices, places.astype(vertices.dtype)]), np.concatenate([faces[stays], *halves])


def _set_apart(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Move vertices at one place a little way towards the middle of their own neighbours."""
    vertices = vertices.copy()
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    for _ in range(_MAX_MOVES):
        touching = _at_one_place(vertices)
        if not touching.any():
            break
        # each neighbour of a vertex on a closed surface is once at the end of a side that starts there
        total = np.stack([np.bincount(start, column, len(vertices)) for column in vertices[end].T], axis=1)
        offset = total / np.bincount(start, minlength=len(vertices)).clip(min=1)[:, None] - vertices
        length = np.linalg.norm(offset, axis=1, keepdims=True).clip(min=1e-12)
        step = np.minimum(_GAP / length, _MAX_SHARE) * offset
        vertices[touching] += step[touching].astype(vertices.dtype)
    return vertices


def _at_one_place(vertices: np.ndarray) -> np.ndarray:
    """(V,) bool: vertices that share their place, within a quarter of the gap, with another one."""
    cells = np.rint(vertices / (_GAP / 4)).astype(np.int64)
    place = row_groups(cells)
    return np.bincount(place)[place] > 1
