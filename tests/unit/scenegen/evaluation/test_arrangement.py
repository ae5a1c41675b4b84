import numpy as np
import pytest
import trimesh

from scenegen.evaluation.arrangement import (
    best_pairing,
    collision_volume,
    floor_heights,
    mean_closest_distance,
    object_volume,
    upright_box,
    upright_box_iou,
)
from scenegen.evaluation.loading import EvaluationScene, ObjectMesh


def box(index=0, sides=(1, 1, 1), place=(0, 0, 0), yaw_deg=0.0):
    mesh = trimesh.creation.box(sides)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(np.deg2rad(yaw_deg), (0, 1, 0)))
    mesh.apply_translation(place)
    return ObjectMesh(index, np.asarray(mesh.vertices), np.asarray(mesh.faces))


@pytest.mark.parametrize("yaw_deg", [0, 17, 45, 80])
def test_upright_box_turns_with_the_object(yaw_deg):
    turned = box(sides=(2, 1, 0.5), place=(3, 0, 1), yaw_deg=yaw_deg)
    plan, heights = upright_box(turned.vertices)
    sides = np.linalg.norm(np.diff(plan, axis=0), axis=1)
    np.testing.assert_allclose(sorted(sides[:2]), (0.5, 2), atol=1e-9)
    np.testing.assert_allclose(heights, (-0.5, 0.5))


def test_overlap_of_upright_boxes_is_that_of_the_prisms():
    still = box(sides=(1, 1, 1)).vertices
    assert upright_box_iou(still, still) == pytest.approx(1)
    assert upright_box_iou(box(place=(0.25, 0, 0)).vertices, still) == pytest.approx(0.75 / 1.25)
    octagon = 2 * (np.sqrt(2) - 1)  # two unit squares, one turned by 45 degrees, share a regular octagon
    turned = box(yaw_deg=45).vertices
    assert upright_box_iou(turned, still) == pytest.approx(octagon / (2 - octagon), rel=1e-6)
    assert upright_box_iou(box(place=(5, 0, 0)).vertices, still) == 0
    assert upright_box_iou(box(place=(0, 5, 0)).vertices, still) == 0


def test_flat_and_thin_objects_have_boxes_too():
    line = np.array([[0, 0, 0], [1, 0, 0], [2, 1, 0.0]])
    assert upright_box_iou(line, line) == 0
    assert np.ptp(upright_box(line)[0], axis=0).max() == pytest.approx(2)


def test_mean_closest_distance_is_in_diagonals_of_the_true_object():
    rng = np.random.default_rng(0)
    sheet = np.column_stack([rng.random(9000), np.zeros(9000), rng.random(9000)])
    corners = np.array([[0, 0, 0], [1, 0, 1.0]])
    found = mean_closest_distance(sheet + (0, 0.3, 0), sheet, corners)
    assert found == pytest.approx(0.3 / np.sqrt(2), rel=1e-3)


def test_heights_are_above_the_lowest_point_of_the_scene():
    scene = EvaluationScene({0: box(0), 4: box(4, place=(2, 0.7, 0))}, True)
    assert floor_heights(scene) == pytest.approx({0: 0.0, 4: 0.7})


def test_collision_volume_is_the_space_that_two_boxes_share():
    assert collision_volume({0: box(0), 1: box(1, place=(3, 0, 0))}) == 0
    shared = collision_volume({0: box(0), 1: box(1, place=(0.5, 0.5, 0))})
    assert shared == pytest.approx(0.25, rel=0.1)
    inside = collision_volume({0: box(0), 1: box(1, sides=(0.5, 0.5, 0.5))})
    assert inside == pytest.approx(object_volume(box(1, sides=(0.5, 0.5, 0.5))), rel=0.02)


def test_pairing_by_overlap_ignores_the_names():
    truth = {0: box(place=(0, 0, 0)).vertices, 1: box(place=(2, 0, 0)).vertices}
    swapped = {0: truth[1], 1: truth[0], 7: box(place=(9, 0, 0)).vertices}
    assert best_pairing(truth, swapped) == {0: (1, pytest.approx(1)), 1: (0, pytest.approx(1))}
    assert best_pairing(truth, {3: truth[1]}) == {1: (3, pytest.approx(1))}
