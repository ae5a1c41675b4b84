"""Close small holes with triangulations of least area."""

from __future__ import annotations

import numpy as np

from trellis_modules.postprocess.topology import MeshEdges, boundary_loops

_SLENDERNESS_WEIGHT = 1e-3  # of squared side lengths: among equal areas, as in planar loops, compact ones win


def fill_holes(vertices: np.ndarray, faces: np.ndarray, max_edges: int) -> tuple[np.ndarray, np.ndarray]:
    """Close every boundary loop with at most ``max_edges`` edges.

    New faces use the vertices of the loop; where no triangulation does without an edge that the mesh already
    has, a new vertex in the middle is joined to the loop.

    Args:
        vertices: (V, 3) float.
        faces: (F, 3) int, consistently oriented near the holes.
        max_edges: loops with more edges stay open.

    Returns:
        Vertices and faces of the filled mesh; the given ones come first, in the same order.

    Source: Liepa, "Filling Holes in Meshes", SGP 2003, sec. 3 (without its refinement).
    """
    existing = _edge_keys(MeshEdges.of(faces).vertices, len(vertices))
    new_vertices, new_faces = [vertices], [faces]
    count = len(vertices)
    for loop in boundary_loops(faces):
        if not 3 <= len(loop) <= max_edges:
            continue
        patch = _least_area_triangulation(vertices[loop], _existing_diagonals(loop, existing, len(vertices)))
        if patch is None:
            new_vertices.append(vertices[loop].mean(axis=0, keepdims=True))
            new_faces.append(np.stack([loop, np.roll(loop, -1), np.full(len(loop), count)], axis=1))
            count += 1
        else:
            new_faces.append(loop[patch])
    return (
        np.concatenate(new_vertices).astype(vertices.dtype),
        np.concatenate(new_faces).astype(faces.dtype),
    )


def _edge_keys(pairs: np.ndarray, num_vertices: int) -> np.ndarray:
    """One number for each pair (..., 2) of vertices, whatever their order; ascending for `MeshEdges`."""
    return pairs.min(axis=-1).astype(np.int64) * num_vertices + pairs.max(axis=-1)


def _existing_diagonals(loop: np.ndarray, existing: np.ndarray, num_vertices: int) -> np.ndarray:
    """(n, n) bool: pairs of loop vertices, not neighbours in the loop, that an edge of the mesh joins."""
    keys = _edge_keys(np.stack(np.meshgrid(loop, loop, indexing="ij"), axis=-1), num_vertices)
    place = np.searchsorted(existing, keys).clip(max=len(existing) - 1)
    step = np.abs(np.subtract.outer(np.arange(len(loop)), np.arange(len(loop))))
    return (existing[place] == keys) & (step > 1) & (step < len(loop) - 1)


def _least_area_triangulation(points: np.ndarray, forbidden: np.ndarray) -> np.ndarray | None:
    """Triangles (n - 2, 3) over a loop of n points (n, 3), or None when all use a forbidden diagonal.

    Dynamic programme over spans of the loop: the best patch under the chord (i, j) is the best triangle
    (i, m, j) on top of the best patches under (i, m) and (m, j).
    """
    points = points.astype(np.float64)
    n = len(points)
    cost = np.full((n, n), np.inf)
    apex = np.zeros((n, n), dtype=np.int64)
    first = np.arange(n - 1)
    cost[first, first + 1] = 0
    for span in range(2, n):
        i = np.arange(n - span)[:, None]
        m = i + np.arange(1, span)[None, :]
        j = i + span
        total = cost[i, m] + cost[m, j] + _triangle_cost(points[i], points[m], points[j])
        best = total.argmin(axis=1)
        rows, columns = i[:, 0], j[:, 0]
        cost[rows, columns] = np.where(forbidden[rows, columns], np.inf, total[np.arange(len(rows)), best])
        apex[rows, columns] = rows + 1 + best
    return _collect(apex) if np.isfinite(cost[0, n - 1]) else None


def _triangle_cost(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Area plus a little for long sides, of broadcast corners (..., 3)."""
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1) / 2
    sides = sum(np.square(p - q).sum(axis=-1) for p, q in ((a, b), (b, c), (c, a)))
    return area + _SLENDERNESS_WEIGHT * sides


def _collect(apex: np.ndarray) -> np.ndarray:
    """Triangles (n - 2, 3) of the best patch under the chord that closes the loop."""
    triangles, chords = [], [(0, len(apex) - 1)]
    while chords:
        i, j = chords.pop()
        if j - i >= 2:
            m = int(apex[i, j])
            triangles.append((i, m, j))
            chords += [(i, m), (m, j)]
    return np.array(triangles)
