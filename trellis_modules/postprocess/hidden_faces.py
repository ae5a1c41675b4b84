"""Remove faces that cannot be seen from outside, by a minimum cut between hidden and visible faces."""

from __future__ import annotations

import logging

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from trellis_modules.postprocess.topology import MeshEdges, connected_labels
from trellis_modules.representations.mesh.triangle_arrays import drop_unreferenced

logger = logging.getLogger(__name__)

_OUTER_QUANTILE, _MIN_OUTER, _MAX_OUTER = 0.75, 0.25, 0.5
_KEEP_MEDIAN_VISIBILITY = 0.25
_MAX_CAPACITY = 2**30  # flows are 32-bit integers
_CAPACITY_SCALE = 1e6
_SOURCE, _SINK, _NUM_TERMINALS = 0, 1, 2


def remove_hidden_faces(
    vertices: np.ndarray, faces: np.ndarray, visibility: np.ndarray, max_hole_size: float
) -> tuple[np.ndarray, np.ndarray]:
    """Cut off the parts of a mesh that no view sees, where the cut leaves small holes only.

    Args:
        vertices: (V, 3) float.
        faces: (F, 3) int.
        visibility: (F,) share of the views from outside in which each face appears.
        max_hole_size: area, in squares of the unit of the vertices, of the largest hole that a removal may
            leave; parts that need a larger one stay.

    Returns:
        Vertices and faces that stay, without unreferenced vertices.

    Source: TRELLIS, arXiv:2412.01506, app. (mesh post-processing).
    """
    edges = MeshEdges.of(faces)
    pairs, shared_edge = edges.adjacent_faces()
    inner = _hidden(visibility, pairs)
    if not inner.any():
        return vertices, faces
    lengths = edges.lengths(vertices.astype(np.float64))
    outer = _clearly_visible(visibility, connected_labels(pairs, len(faces)))
    candidate = _source_side(inner, outer, pairs, lengths[shared_edge])
    remove = _removable(vertices, edges, candidate, visibility, pairs, max_hole_size)
    logger.debug("remove_hidden_faces: %d of %d faces removed", remove.sum(), len(faces))
    return drop_unreferenced(vertices, faces[~remove])


def _hidden(visibility: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """(F,) bool: unseen faces that do not stand alone; a single one among seen faces was only too small."""
    unseen = visibility == 0
    has_neighbour = np.zeros(len(unseen), dtype=bool)
    has_neighbour[pairs] = True
    beside_unseen = np.zeros(len(unseen), dtype=bool)
    beside_unseen[pairs[unseen[pairs].all(axis=1)]] = True
    return unseen & (beside_unseen | ~has_neighbour)


def _clearly_visible(visibility: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(F,) bool: faces from the upper quartile of visibility in their component, within bounds.

    The quartile itself counts: on a round shape very many faces are seen equally often.
    """
    threshold = _quantiles(visibility, labels, _OUTER_QUANTILE).clip(_MIN_OUTER, _MAX_OUTER)
    return visibility >= threshold[labels]


def _quantiles(values: np.ndarray, labels: np.ndarray, fraction: float) -> np.ndarray:
    """Quantile of the values (N,) of each label; labels (N,) are 0, 1, ... without gaps."""
    ascending = values[np.lexsort((values, labels))]
    sizes = np.bincount(labels)
    rank = (np.cumsum(sizes) - sizes) + fraction * (sizes - 1)
    low, high = np.floor(rank).astype(int), np.ceil(rank).astype(int)
    return ascending[low] + (rank - low) * (ascending[high] - ascending[low])


def _source_side(inner: np.ndarray, outer: np.ndarray, pairs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(F,) bool: the side of the hidden faces in the minimum cut.

    The source is joined to inner faces and outer faces to the sink, each with capacity 1, and neighbours by
    the length of their edge. A face whose joints to neighbours sum to less than 1 is never cut from its
    terminal, so it is merged with it; that leaves a small graph and the same cut.
    """
    merged = np.bincount(pairs.ravel(), np.repeat(weights, 2), minlength=len(inner)) < 1
    node = np.full(len(inner), -1)
    node[inner & merged] = _SOURCE
    node[outer & merged] = _SINK
    free = node < 0
    node[free] = _NUM_TERMINALS + np.arange(free.sum())
    tied_inner, tied_outer = np.flatnonzero(inner & ~merged), np.flatnonzero(outer & ~merged)
    ends = np.concatenate(
        [
            node[pairs],
            np.stack([node[tied_inner], np.full(len(tied_inner), _SOURCE)], axis=1),
            np.stack([node[tied_outer], np.full(len(tied_outer), _SINK)], axis=1),
        ]
    )
    capacity = np.concatenate([weights, np.ones(len(tied_inner) + len(tied_outer))])
    between = ends[:, 0] != ends[:, 1]
    reached = _reached_from_source(ends[between], capacity[between], _NUM_TERMINALS + int(free.sum()))
    return reached[node]


def _reached_from_source(ends: np.ndarray, capacity: np.ndarray, count: int) -> np.ndarray:
    """(count,) bool: nodes that unused capacity joins to the source under the maximum flow."""
    scale = min(_CAPACITY_SCALE, _MAX_CAPACITY / max(capacity.sum(), 1e-9))
    whole = np.rint(capacity * scale).astype(np.int32)
    row, column = np.concatenate([ends, ends[:, ::-1]]).T
    graph = csr_array(coo_array((np.concatenate([whole, whole]), (row, column)), shape=(count, count)))
    graph.sum_duplicates()
    graph.eliminate_zeros()
    graph.indices, graph.indptr = graph.indices.astype(np.int32), graph.indptr.astype(np.int32)
    reached = np.zeros(count, dtype=bool)
    reached[_SOURCE] = True
    if graph.nnz:
        residual = csr_array(graph - maximum_flow(graph, _SOURCE, _SINK).flow)
        residual.eliminate_zeros()
        reached[breadth_first_order(residual, _SOURCE, return_predecessors=False)] = True
    return reached


def _removable(
    vertices: np.ndarray,
    edges: MeshEdges,
    candidate: np.ndarray,
    visibility: np.ndarray,
    pairs: np.ndarray,
    max_hole_size: float,
) -> np.ndarray:
    """(F,) bool: candidates in connected groups that are seen little and leave no large hole."""
    members = np.flatnonzero(candidate)
    place = np.cumsum(candidate) - 1
    group = connected_labels(place[pairs[candidate[pairs].all(axis=1)]], len(members))
    num_groups = int(group.max(initial=-1)) + 1
    keep = _quantiles(visibility[members], group, 0.5) > _KEEP_MEDIAN_VISIBILITY
    largest = _largest_new_hole(vertices, edges, members, group, num_groups)
    remove = np.zeros(len(candidate), dtype=bool)
    remove[members] = ~(keep | (largest > max_hole_size))[group]
    return remove


def _largest_new_hole(
    vertices: np.ndarray, edges: MeshEdges, members: np.ndarray, group: np.ndarray, num_groups: int
) -> np.ndarray:
    """(num_groups,) area of the largest loop of edges along which a group of faces would be cut off.

    A loop's area is that of the fan of its edges around the mean of their middles.
    """
    sides = edges.of_face[members]
    inside_count = np.bincount(sides.ravel(), minlength=len(edges.degree))
    cut = (inside_count[sides] == 1) & (edges.degree[sides] > 1)
    edge, owner = sides[cut], np.broadcast_to(group[:, None], sides.shape)[cut]
    # the same vertex in two groups belongs to two loops
    keys = owner[:, None] * (int(edges.vertices.max()) + 1) + edges.vertices[edge]
    _, ends = np.unique(keys, return_inverse=True)
    ends = ends.reshape(-1, 2)
    loop = connected_labels(ends, int(ends.max(initial=-1)) + 1)[ends[:, 0]]
    a, b = vertices[edges.vertices[edge, 0]], vertices[edges.vertices[edge, 1]]
    size = np.bincount(loop)
    middle = np.stack([np.bincount(loop, column) for column in ((a + b) / 2).T], axis=1) / size[:, None]
    fan = np.linalg.norm(np.cross(a - middle[loop], b - middle[loop]), axis=1) / 2
    area = np.bincount(loop, fan)
    largest = np.zeros(num_groups)
    np.maximum.at(largest, owner, area[loop])
    return largest
