"""Loose pieces: joined across a thin gap, or left out."""

import numpy as np
import pytest
import trimesh

from scenegen.physics.pieces import loose_pieces
from scenegen.refinement.pieces import tidy_pieces


def box(size, centre) -> trimesh.Trimesh:
    placed = trimesh.transformations.translation_matrix(centre)
    return trimesh.creation.box(size, placed).subdivide().subdivide()


TOP = box((1.0, 0.1, 1.0), (0.0, 0.25, 0.0))


def pieces(mesh: trimesh.Trimesh) -> int:
    return loose_pieces(np.asarray(mesh.vertices), np.asarray(mesh.faces))


def test_an_object_in_one_piece_is_the_same_object():
    found = tidy_pieces(TOP)
    assert found.mesh is TOP and (found.joined, found.dropped) == (0, 0)


def test_a_leg_below_a_thin_gap_is_joined_and_its_foot_stays_on_the_floor():
    leg = box((0.1, 0.5, 0.1), (0.4, -0.09, 0.4))  # ends 0.04 below the top
    found = tidy_pieces(trimesh.util.concatenate([TOP, leg]))
    assert (found.joined, found.dropped) == (1, 0)
    assert pieces(found.mesh) == 0
    np.testing.assert_allclose(found.mesh.bounds, [[-0.5, -0.34, -0.5], [0.5, 0.3, 0.5]], atol=1e-6)
    assert found.mesh.volume == pytest.approx(TOP.volume + 0.1 * 0.1 * 0.55, rel=0.02)
    assert found.mesh.is_watertight


def test_a_large_piece_is_joined_across_a_wider_gap_than_a_small_one():
    wide = box((0.8, 0.4, 0.8), (0.0, -0.2, 0.0))  # 0.2 below
    small = box((0.1, 0.1, 0.1), (0.4, 0.55, 0.4))  # 0.2 above
    assert tidy_pieces(trimesh.util.concatenate([TOP, wide])).joined == 1
    found = tidy_pieces(trimesh.util.concatenate([TOP, small]))
    assert (found.joined, found.dropped) == (0, 1)
    np.testing.assert_allclose(found.mesh.bounds, TOP.bounds)


def test_a_bar_joins_a_large_piece_far_away():
    far = box((0.8, 0.4, 0.8), (0.0, -0.5, 0.0))  # 0.5 below
    found = tidy_pieces(trimesh.util.concatenate([TOP, far]))
    assert (found.joined, found.dropped) == (1, 0) and pieces(found.mesh) == 0
    np.testing.assert_allclose(found.mesh.bounds, [[-0.5, -0.7, -0.5], [0.5, 0.3, 0.5]], atol=1e-6)
    bar = found.mesh.volume - TOP.volume - far.volume
    assert 0.5 * 0.025**2 <= bar <= 0.6 * 0.025**2, "thin, from one to the other"


def test_a_small_piece_that_holds_the_object_up_is_joined_and_one_above_left_out():
    foot, knob = box((0.1, 0.05, 0.1), (0.0, -0.375, 0.0)), box((0.1, 0.05, 0.1), (0.0, 0.5, 0.0))
    found = tidy_pieces(trimesh.util.concatenate([TOP, foot, knob]))
    assert (found.joined, found.dropped) == (1, 1) and pieces(found.mesh) == 0
    np.testing.assert_allclose(found.mesh.bounds[:, 1], [-0.4, 0.3], atol=1e-6)


def test_crumbs_are_left_out_and_colours_stay():
    crumb = box((0.01, 0.01, 0.01), (0.0, 0.33, 0.0))
    mesh = trimesh.util.concatenate([TOP, crumb])
    mesh.visual.vertex_colors = np.arange(len(mesh.vertices) * 4).reshape(-1, 4) % 256
    found = tidy_pieces(mesh)
    assert found.dropped == 1 and len(found.mesh.faces) == len(TOP.faces)
    np.testing.assert_array_equal(
        found.mesh.visual.vertex_colors, mesh.visual.vertex_colors[: len(found.mesh.vertices)]
    )


def test_a_chain_of_pieces_is_joined_link_by_link():
    links = [box((0.1, 0.2, 0.1), (0.4, 0.07 - 0.23 * k, 0.4)) for k in range(2)]
    found = tidy_pieces(trimesh.util.concatenate([TOP, *links]))
    assert found.joined == 2 and pieces(found.mesh) == 0


def test_a_plant_keeps_its_leaves_and_they_hang_on_it():
    leaves = [box((0.05, 0.002, 0.05), (0.1 * x, 0.5, 0.1 * z)) for x in range(-3, 3) for z in range(-3, 3)]
    mesh = trimesh.util.concatenate([box((0.05, 0.4, 0.05), (0.0, 0.2, 0.0)), *leaves])
    found = tidy_pieces(mesh)
    assert (found.joined, found.dropped) == (36, 0) and pieces(found.mesh) == 0
    np.testing.assert_allclose(found.mesh.vertices[: len(mesh.vertices)].max(axis=0), mesh.bounds[1])


def test_a_bar_has_the_colour_of_the_piece_at_its_end():
    far = box((0.8, 0.4, 0.8), (0.0, -0.5, 0.0))
    mesh = trimesh.util.concatenate([TOP, far])
    counts = len(TOP.vertices), len(far.vertices)
    colours = np.repeat([[200, 10, 10, 255], [10, 200, 10, 255]], counts, axis=0)
    mesh.visual.vertex_colors = colours
    made = np.asarray(tidy_pieces(mesh).mesh.visual.vertex_colors)
    assert len(made) > len(colours) and (made[len(colours) :] == colours[0]).all()
