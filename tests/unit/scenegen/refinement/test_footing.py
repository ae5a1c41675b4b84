"""Feet that objects stand on: undersides that are evened, and plain legs."""

import numpy as np
import pytest
import trimesh

from scenegen.physics.balance import TOUCHING, lowest_points, support_margin
from scenegen.refinement.footing import complete_footing
from trellis_modules.postprocess.solid import report_solid


def box(size, centre) -> trimesh.Trimesh:
    placed = trimesh.transformations.translation_matrix(centre)
    return trimesh.creation.box(size, placed).subdivide().subdivide().subdivide()


def margin(mesh: trimesh.Trimesh) -> float:
    """How far the centre of mass is inside the feet."""
    feet = lowest_points(np.asarray(mesh.vertices), TOUCHING)
    return support_margin(feet[:, [0, 2]], mesh.center_mass[[0, 2]])


def is_closed(mesh: trimesh.Trimesh) -> bool:
    return report_solid(np.asarray(mesh.vertices), np.asarray(mesh.faces)).watertight


def test_the_margin_of_a_square():
    square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    assert support_margin(square, np.array([0.3, 0.5])) == pytest.approx(0.3)
    assert support_margin(square, np.array([1.2, 0.5])) == pytest.approx(-0.2)
    assert support_margin(square[:2], np.array([0.5, 0.0])) == -np.inf
    assert support_margin(square[:2].repeat(2, axis=0), np.array([0.5, 0.0])) == -np.inf


def test_what_is_steady_stays_as_it_is():
    mesh = box((0.6, 0.8, 0.5), (0.0, 0.0, 0.0))
    found = complete_footing(mesh)
    assert found.mesh is mesh and (found.levelled, found.legs, found.steady) == (0.0, 0, True)


def test_a_round_underside_is_evened_and_the_rest_stays():
    mesh = box((1.0, 0.5, 0.8), (0.0, 0.0, 0.0))
    under = mesh.vertices[:, 1] < -0.24
    mesh.vertices[under, 1] += 0.09 * np.square(mesh.vertices[under, 2] / 0.4)  # stands on its middle
    assert margin(mesh) < 0.02
    found = complete_footing(mesh)
    assert found.steady and found.legs == 0 and 0 < found.levelled <= 0.09 * 0.5
    assert margin(found.mesh) > 0.05 and is_closed(found.mesh)
    moved = np.abs(found.mesh.vertices - mesh.vertices).max(axis=1)
    assert (moved[mesh.vertices[:, 1] > -0.25 + 3 * found.levelled] == 0).all()
    np.testing.assert_allclose(found.mesh.bounds, mesh.bounds, atol=1e-9)


def test_legs_that_are_a_little_short_reach_the_floor():
    legs = [(x, z) for x in (-0.4, 0.4) for z in (-0.3, 0.3)]
    parts = [box((1.0, 0.1, 0.8), (0.0, 0.25, 0.0))]
    for number, (x, z) in enumerate(legs):
        short = 0.04 if number in (0, 1) else 0.0  # both legs of one side
        parts.append(box((0.08, 0.5 - short, 0.08), (x, -0.02 + short / 2, z)))
    found = complete_footing(trimesh.util.concatenate(parts))
    feet = lowest_points(np.asarray(found.mesh.vertices), TOUCHING)
    assert found.steady and found.legs == 0
    assert {tuple(np.sign(foot[[0, 2]]).astype(int)) for foot in feet} == {(-1, -1), (-1, 1), (1, -1), (1, 1)}


def test_a_slender_lamp_needs_no_legs():
    lamp = trimesh.util.concatenate(
        [
            trimesh.creation.cylinder(0.06, 0.04, transform=_upright(-0.48)),
            trimesh.creation.cylinder(0.015, 0.7, transform=_upright(-0.11)),
            trimesh.creation.cylinder(0.2, 0.25, transform=_upright(0.35)),
        ]
    )
    found = complete_footing(lamp)
    assert found.steady and found.legs == 0


def test_a_body_on_one_leg_in_a_corner_gets_plain_legs_on_the_floor():
    body = trimesh.util.concatenate(
        [box((1.0, 0.2, 0.8), (0.0, 0.2, 0.0)), box((0.1, 0.5, 0.1), (0.4, -0.1, 0.3))]
    )
    found = complete_footing(body)
    assert found.steady and 1 <= found.legs <= 3
    assert margin(found.mesh) > 0.03 and is_closed(found.mesh)
    np.testing.assert_allclose(found.mesh.bounds, body.bounds, atol=1e-6)
    new = found.mesh.vertices[len(body.vertices) :]
    assert new[:, 1].min() == pytest.approx(body.bounds[0][1]) and new[:, 1].max() < 0.3, (
        "not through the top"
    )


def test_plain_legs_have_the_colour_of_the_body_above():
    body, leg = box((1.0, 0.2, 0.8), (0.0, 0.2, 0.0)), box((0.1, 0.5, 0.1), (0.4, -0.1, 0.3))
    mesh = trimesh.util.concatenate([body, leg])
    counts = len(body.vertices), len(leg.vertices)
    mesh.visual.vertex_colors = np.repeat([[9, 9, 200, 255], [9, 200, 9, 255]], counts, axis=0)
    new = np.asarray(complete_footing(mesh).mesh.visual.vertex_colors)[len(mesh.vertices) :]
    assert len(new) and (new == (9, 9, 200, 255)).all()


def _upright(height: float) -> np.ndarray:
    turn = trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0))
    return trimesh.transformations.translation_matrix((0.0, height, 0.0)) @ turn
