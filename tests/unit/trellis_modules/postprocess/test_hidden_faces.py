"""The cut between hidden and visible faces against brute force, and what may be removed."""

from itertools import product

import numpy as np
import pytest
import trimesh

from trellis_modules.postprocess.hidden_faces import _clearly_visible, _source_side, remove_hidden_faces
from trellis_modules.postprocess.topology import MeshEdges, connected_labels


def cut_cost(side, inner, outer, pairs, weights):
    crossing = side[pairs[:, 0]] != side[pairs[:, 1]]
    return weights[crossing].sum() + (inner & ~side).sum() + (outer & side).sum()


@pytest.mark.parametrize("scale", [0.02, 0.3, 2.0])  # edges much shorter than, like and longer than the ties
def test_cut_is_the_cheapest(scale):
    rng = np.random.default_rng(3)
    mesh = trimesh.creation.box()  # 12 faces: 4096 cuts
    vertices = scale * (mesh.vertices + 0.3 * rng.random(mesh.vertices.shape))
    edges = MeshEdges.of(mesh.faces)
    pairs, shared = edges.adjacent_faces()
    lengths = edges.lengths(vertices)
    kind = rng.integers(0, 3, 12)
    inner, outer = kind == 0, kind == 1
    side = _source_side(inner, outer, pairs, lengths[shared])
    best = min(
        cut_cost(np.array(cut), inner, outer, pairs, lengths[shared])
        for cut in product([False, True], repeat=12)
    )
    assert cut_cost(side, inner, outer, pairs, lengths[shared]) == pytest.approx(best, abs=1e-4)


def test_threshold_is_the_upper_quartile_of_the_component_within_bounds():
    visibility = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.9, 0.9, 0.1])
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    # thresholds: 0.3 of component 0, at most 0.5 of component 1, at least 0.25 of component 2
    np.testing.assert_array_equal(
        _clearly_visible(visibility, labels), [False, False, False, True, True, True, True, False]
    )


@pytest.fixture
def capped_sphere():
    """A sphere of radius 0.5, its visibility with an unseen cap, and the cap's faces."""
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    cap = sphere.triangles_center[:, 2] > 0.4
    return sphere, np.where(cap, 0.0, 0.45), cap


def test_unseen_part_goes_if_its_border_is_small(capped_sphere):
    sphere, visibility, cap = capped_sphere
    _, faces = remove_hidden_faces(sphere.vertices, sphere.faces, visibility, max_hole_size=0.4)
    assert len(faces) == (~cap).sum()


def test_unseen_part_stays_if_its_border_is_large(capped_sphere):
    sphere, visibility, _ = capped_sphere
    _, faces = remove_hidden_faces(sphere.vertices, sphere.faces, visibility, max_hole_size=0.04)
    assert len(faces) == len(sphere.faces)


def test_lone_unseen_face_among_seen_ones_stays():
    sphere = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    visibility = np.full(len(sphere.faces), 0.45)
    visibility[7] = 0
    _, faces = remove_hidden_faces(sphere.vertices, sphere.faces, visibility, max_hole_size=0.04)
    assert len(faces) == len(sphere.faces)


def test_unseen_component_goes_with_its_vertices():
    outer = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    inner = trimesh.creation.icosphere(subdivisions=1, radius=0.2)
    both = trimesh.util.concatenate([inner, outer])
    visibility = np.r_[np.zeros(len(inner.faces)), np.full(len(outer.faces), 0.45)]
    vertices, faces = remove_hidden_faces(both.vertices, both.faces, visibility, max_hole_size=0.0)
    assert len(faces) == len(outer.faces) and len(vertices) == len(outer.vertices)
    assert len(set(connected_labels(MeshEdges.of(faces).adjacent_faces()[0], len(faces)))) == 1
