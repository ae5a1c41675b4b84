"""Simplification to a number of triangles, reached closely."""

from __future__ import annotations

from collections.abc import Callable

import fast_simplification
import numpy as np

TOLERANCE = 0.02
"""Share of the wanted number by which the result may miss it."""

_TRIES = 4
_FEWEST = 4  # a tetrahedron


Mesh = tuple[np.ndarray, np.ndarray]


def simplify_to(
    vertices: np.ndarray, faces: np.ndarray, count: int, tidy: Callable[..., Mesh] | None = None
) -> Mesh:
    """Remove faces until about ``count`` are left, within `TOLERANCE` where the surface allows it.

    Args:
        vertices: (V, 3) float32.
        faces: (F, 3) integer.
        count: of the triangles wanted; a mesh with fewer comes back as it is.
        tidy: (vertices, faces) -> the same, applied to what simplification leaves; the faces that it drops
            do not count.

    Returns:
        Vertices (W, 3) and faces (G, 3). A surface that edge collapses cannot bring down so far, such as many
        loose parts, keeps more faces.

    Source: Garland, Heckbert, Surface Simplification Using Quadric Error Metrics, 1997; package
    fast-simplification.
    """
    if len(faces) <= count:
        return vertices, faces
    target, best = count, None
    for _ in range(_TRIES):
        found = fast_simplification.simplify(vertices, faces, target_count=max(target, _FEWEST))
        found = found if tidy is None else tidy(*found)
        if best is None or abs(len(found[1]) - count) < abs(len(best[1]) - count):
            best = found
        missing = count - len(best[1])
        if abs(missing) <= TOLERANCE * count:
            break
        target += count - len(found[1])
    return best
