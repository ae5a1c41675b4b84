"""Triangle meshes as NumPy arrays of vertices and faces: areas, welding."""

from __future__ import annotations

import numpy as np


def triangle_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) float64 areas of triangles, in squared units of the vertices (V, 3)."""
    # Column by column, in half the time of np.cross and np.linalg.norm on rows.
    first, second, third = (vertices.astype(np.float64).T[:, column] for column in faces.T)
    (ax, ay, az), (bx, by, bz) = second - first, third - first
    x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    return np.sqrt(x * x + y * y + z * z) / 2


def weld(
    vertices: np.ndarray, faces: np.ndarray, tolerance: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge vertices at one place and drop faces that lose a side, and vertices that no face uses.

    Args:
        vertices: (V, 3).
        faces: (F, 3) int.
        tolerance: step of the grid on which places are compared, in the unit of the vertices: closer ones
            mostly merge, and the first of them stays. 0 merges vertices at exactly equal places only.

    Returns:
        (V', 3) vertices, (F', 3) int64 faces, (F',) indices of the faces that are kept.
    """
    # Adding 0 makes -0, which is the same place, equal to it bit by bit.
    places = np.round(vertices / tolerance).astype(np.int64) if tolerance else vertices + 0.0
    order, starts = _sorted_rows(places)
    first, merged = order[starts], _groups(order, starts)[faces]
    a, b, c = merged.T
    kept = np.flatnonzero((a != b) & (b != c) & (c != a))
    welded, compact = drop_unreferenced(vertices[first], merged[kept])
    return welded, compact, kept


def unique_rows(rows: np.ndarray) -> np.ndarray:
    """The different rows of an array (N, C) of numbers, sorted: np.unique of rows in a fifth of its time."""
    order, starts = _sorted_rows(rows)
    return rows[order[starts]]


def row_groups(rows: np.ndarray) -> np.ndarray:
    """For each row of an array (N, C) its place (N,) int64 among the different ones, sorted."""
    return _groups(*_sorted_rows(rows))


def _groups(order: np.ndarray, starts: np.ndarray) -> np.ndarray:
    groups = np.empty(len(order), dtype=np.int64)
    groups[order] = np.cumsum(starts) - 1
    return groups


def _sorted_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order (N,) that sorts rows, and which rows (N,) bool in this order differ from the one before."""
    order = np.lexsort(rows.T[::-1])
    starts = np.zeros(len(order), dtype=bool)
    starts[:1] = True
    for column in rows.T:
        in_order = column[order]
        starts[1:] |= in_order[1:] != in_order[:-1]
    return order, starts


def drop_unreferenced(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the vertices that no face uses; the order stays."""
    used = np.zeros(len(vertices), dtype=bool)
    used[faces] = True
    return vertices[used], (np.cumsum(used) - 1)[faces]
