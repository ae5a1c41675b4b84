"""Edges and loops of small meshes whose answers are known."""

import numpy as np
import trimesh

from trellis_modules.postprocess.topology import (
    MeshEdges,
    boundary_loops,
    connected_labels,
)

TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


def test_edges_of_a_tetrahedron():
    edges = MeshEdges.of(TETRAHEDRON)
    assert sorted(map(tuple, edges.vertices)) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert (edges.degree == 2).all()
    sides = np.stack([TETRAHEDRON, np.roll(TETRAHEDRON, -1, axis=1)], axis=-1)
    np.testing.assert_array_equal(edges.vertices[edges.of_face], np.sort(sides, axis=-1))
    pairs, shared = edges.adjacent_faces()
    assert sorted(map(tuple, np.sort(pairs))) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    for (first, second), edge in zip(pairs, shared):
        assert set(edges.vertices[edge]) == set(TETRAHEDRON[first]) & set(TETRAHEDRON[second])


def test_faces_of_an_edge_shared_by_three_are_connected():
    fan = np.array([[0, 1, 2], [0, 1, 3], [0, 1, 4]])
    pairs, _ = MeshEdges.of(fan).adjacent_faces()
    assert len(set(connected_labels(pairs, 3))) == 1


def test_products_of_labels_and_vertex_numbers_stay_exact_beyond_32_bits():
    count = 70_000
    labels = connected_labels(np.zeros((0, 2), dtype=int), count)
    assert (labels * count).max() == (count - 1) * count > 2**32


def test_no_faces():
    edges = MeshEdges.of(np.zeros((0, 3), dtype=int))
    assert len(edges.vertices) == 0 and len(edges.adjacent_faces()[0]) == 0
    assert boundary_loops(np.zeros((0, 3), dtype=int)) == []


def test_loops_run_so_that_new_faces_fit():
    (loop,) = boundary_loops(TETRAHEDRON[1:])
    closed = np.concatenate([TETRAHEDRON[1:], loop[None]])
    assert trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], closed).is_watertight
    assert trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], closed).is_winding_consistent


def test_holes_that_touch_at_a_vertex_are_two_loops():
    sphere = trimesh.creation.icosphere(subdivisions=2)
    vertex = 3
    around = np.flatnonzero((sphere.faces == vertex).any(axis=1))
    first = around[0]
    apart = [face for face in around if len(set(sphere.faces[face]) & set(sphere.faces[first])) == 1]
    loops = boundary_loops(np.delete(sphere.faces, [first, apart[0]], axis=0))
    assert sorted(map(len, loops)) == [3, 3]
