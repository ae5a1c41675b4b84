"""Edges, components and boundary loops of triangle meshes, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass(frozen=True)
class MeshEdges:
    """The undirected edges of a mesh.

    Attributes:
        vertices: (E, 2) int64, the smaller vertex index first.
        of_face: (F, 3) int64, edge of each side (corners 0-1, 1-2, 2-0).
        degree: (E,) int64, faces at each edge; 1 on the boundary, 2 inside a manifold.
    """

    vertices: np.ndarray
    of_face: np.ndarray
    degree: np.ndarray

    @classmethod
    def of(cls, faces: np.ndarray) -> MeshEdges:
        """Find the edges of faces (F, 3)."""
        start, end = _sides(faces)
        stride = int(faces.max(initial=-1)) + 1
        keys, inverse, degree = np.unique(
            np.minimum(start, end) * stride + np.maximum(start, end), return_inverse=True, return_counts=True
        )
        stride = max(stride, 1)
        return cls(np.stack([keys // stride, keys % stride], axis=1), inverse.reshape(-1, 3), degree)

    def adjacent_faces(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (P, 2) of faces that share an edge, and that edge (P,).

        The faces of a non-manifold edge form a chain, which connects them all.
        """
        order = np.argsort(self.of_face.ravel(), kind="stable")
        edge = self.of_face.ravel()[order]
        same = edge[1:] == edge[:-1]
        return np.stack([order[:-1][same] // 3, order[1:][same] // 3], axis=1), edge[1:][same]

    def lengths(self, vertices: np.ndarray) -> np.ndarray:
        """(E,) lengths, in the unit of the vertices (V, 3)."""
        return np.linalg.norm(vertices[self.vertices[:, 0]] - vertices[self.vertices[:, 1]], axis=1)


def _sides(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last vertex (3F,) int64 of the sides of faces, in the order of the faces."""
    faces = faces.astype(np.int64)
    return faces.ravel(), np.roll(faces, -1, axis=1).ravel()


def connected_labels(pairs: np.ndarray, count: int) -> np.ndarray:
    """Component (count,) int64 of each of ``count`` things of which some (P, 2) are joined.

    scipy gives 32 bits, in which products of labels and vertex numbers would overflow.
    """
    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def face_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) float64 areas, in squares of the unit of the vertices (V, 3)."""
    a, b, c = vertices[faces].astype(np.float64).transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def weld(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge vertices at equal places and drop faces that lose a side, and vertices that no face uses."""
    _, first, inverse = np.unique(vertices + 0.0, axis=0, return_index=True, return_inverse=True)
    faces = inverse.reshape(-1)[faces]
    collapsed = (faces == np.roll(faces, -1, axis=1)).any(axis=1)
    return drop_unreferenced(vertices[first], faces[~collapsed])


def drop_unreferenced(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the vertices that no face uses; the order stays."""
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    return vertices[used], (np.cumsum(used) - 1)[faces]


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Closed loops of boundary edges, each a list of vertices in the direction that new faces need.

    A loop that touches itself at a vertex is cut there into simple loops. Chains that do not close, as meshes
    without consistent orientation have them, are left out.
    """
    edges = MeshEdges.of(faces)
    start, end = _sides(faces)
    open_side = edges.degree[edges.of_face.ravel()] == 1
    following: dict[int, list[int]] = {}
    for tail, head in zip(end[open_side].tolist(), start[open_side].tolist()):
        following.setdefault(tail, []).append(head)
    loops = []
    for first in list(following):
        while following.get(first):
            loops += _trace(first, following)
    return loops


def _trace(first: int, following: dict[int, list[int]]) -> list[np.ndarray]:
    """Walk from a vertex until the way ends, using up ``following``; every closed part is a loop."""
    loops, path, place = [], [first], {first: 0}
    while successors := following.get(path[-1]):
        vertex = successors.pop()
        if vertex in place:
            at = place[vertex]
            loops.append(np.array(path[at:]))
            for left in path[at + 1 :]:
                del place[left]
            del path[at + 1 :]
        else:
            place[vertex] = len(path)
            path.append(vertex)
    return loops
