"""Gravity on bodies whose fate is known."""

import numpy as np
import pytest
import trimesh

from scenegen.physics.bodies import rigid_body
from scenegen.physics.colliders import collider_of
from scenegen.physics.simulation import scene_extent, simulate
from tests.furniture_shapes import table

pytest.importorskip("manifold3d")
pytest.importorskip("mujoco")


def _body(mesh, name="obj_0", height=0.0, shift=(0.0, 0.0), turn=None):
    """A body of density 400, its lowest point at a height in metres before it is turned."""
    transform = np.eye(4) if turn is None else np.array(turn)
    transform[:3, 3] = (shift[0], height - mesh.bounds[0][1], shift[1])
    return rigid_body(name, collider_of(mesh, name), transform, floor=0.0, metres=1.0)


def test_a_table_stays_where_it_stands():
    (motion,) = simulate([_body(table())])
    assert motion.stable and motion.drift < 0.005 and motion.turn_deg < 1 and motion.penetration < 0.002


def test_what_hovers_falls_by_its_height():
    (motion,) = simulate([_body(table(), height=0.3)])
    assert motion.fall == pytest.approx(0.3, abs=0.02) and not motion.stable
    assert motion.peak_speed == pytest.approx(np.sqrt(2 * 9.81 * 0.3), rel=0.05)
    assert motion.peak_energy == pytest.approx(9.81 * 0.3, rel=0.1)


def test_what_leans_too_far_turns_over():
    pole = trimesh.creation.box((0.1, 1.0, 0.1))
    leaning = trimesh.transformations.rotation_matrix(np.radians(20), (0, 0, 1))
    (motion,) = simulate([_body(pole, height=0.05, turn=leaning)], size=1.0)
    assert motion.turn_deg > 45 and not motion.stable


def test_one_body_on_another_stays_and_inside_one_another_they_part():
    box = trimesh.creation.box((1.0, 0.2, 1.0))
    below, above = _body(box), _body(trimesh.creation.box((0.3, 0.3, 0.3)), "obj_1", height=0.2)
    assert all(motion.stable for motion in simulate([below, above]))
    inside = _body(trimesh.creation.box((0.3, 0.3, 0.3)), "obj_1", height=0.1)
    motions = simulate([below, inside])
    assert min(motion.penetration for motion in motions) == pytest.approx(0.1, abs=0.02)


def test_the_size_of_a_scene_is_that_of_its_parts():
    bodies = [_body(table()), _body(table(), "obj_1", shift=(2.0, 0.0))]
    assert scene_extent(bodies) == pytest.approx(3.0, abs=1e-3)
    assert simulate([]) == [] and scene_extent([]) == 0
