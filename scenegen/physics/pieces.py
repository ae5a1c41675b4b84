"""Pieces of an object: what of its surface hangs together."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from trellis_modules.postprocess.topology import connected_labels
from trellis_modules.representations.mesh.triangle_arrays import weld

_JOINT = 0.01  # of the longest side: pieces nearer to each other hang together
_MOST_HALVINGS = 30  # of an edge


def piece_labels(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The piece that each face belongs to.

    Pieces whose surfaces come nearer than 1 % of the longest side to each other count as joined: furniture
    models are put together of parts that only touch.

    Args:
        vertices: (V, 3).
        faces: (F, 3).

    Returns:
        (F,) int64 from 0; -1 for faces without a surface, which lose a side when equal vertices are merged.
    """
    labels = np.full(len(faces), -1, np.int64)
    welded, corners, kept = weld(vertices, faces)
    if not len(corners):
        return labels
    edges = np.concatenate([corners[:, :2], corners[:, 1:]])
    own = connected_labels(edges, len(welded))[corners[:, 0]]
    count = int(own.max()) + 1
    if count > 1:
        reach = _JOINT * float(np.ptp(welded, axis=0).max())
        points, origin = surface_points(welded, corners, reach)
        near = cKDTree(points).query_pairs(reach, output_type="ndarray")
        own = connected_labels(own[origin[near]], count)[own]
    labels[kept] = own
    return labels


def surface_points(vertices: np.ndarray, faces: np.ndarray, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 3) on a surface, no farther apart than a spacing, and the face (P,) that each is on."""
    points, parts, origin = trimesh.remesh.subdivide_to_size(
        vertices, faces, max_edge=spacing, max_iter=_MOST_HALVINGS, return_index=True
    )
    of_point = np.empty(len(points), np.int64)
    of_point[parts] = origin[:, None]
    used = np.unique(parts)
    return points[used], of_point[used]


def loose_pieces(vertices: np.ndarray, faces: np.ndarray) -> int:
    """How many pieces of an object hang together with nothing else of it, beside one; see `piece_labels`."""
    labels = piece_labels(vertices, faces)
    return max(len(np.unique(labels[labels >= 0])) - 1, 0)
