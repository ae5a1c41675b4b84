import numpy as np
import pytest
import torch

from scenegen.evaluation.clouds import CloudPair
from scenegen.evaluation.metrics import (
    box_iou,
    chamfer_distances,
    f_score,
    normalise_object,
    relative_poses,
    symmetric_rotation_errors_deg,
    worst_chamfer,
)
from scenegen.geometry import pose_differences


def yaw(*angles_deg):
    half = torch.deg2rad(torch.tensor(angles_deg, dtype=torch.float64)) / 2
    zero = torch.zeros_like(half)
    return torch.stack((half.cos(), zero, half.sin(), zero), dim=-1)


def test_chamfer_is_the_sum_of_mean_squares():
    matches = CloudPair(np.array([[0, 0, 0], [3, 0, 0.0]]), np.array([[0, 1, 0.0]])).match()
    assert chamfer_distances(matches) == pytest.approx({"cd_1": (1 + 10) / 2, "cd_2": 1, "cd": 6.5})


def test_f_score_counts_strictly_nearer_points():
    prediction, truth = np.array([[0.5, 0, 0], [0.25, 0, 0.0]]), np.array([[0.0, 0, 0]])
    matches = CloudPair(prediction, truth).match()
    assert f_score(matches, 0.25) == 0
    assert f_score(matches, 0.26) == pytest.approx(2 * 0.5 * 1 / 1.5)


def test_box_iou():
    box = np.array([[0, 0, 0], [2, 1, 1.0]])
    assert box_iou(box, box) == pytest.approx(1)
    assert box_iou(box, box + (1, 0, 0)) == pytest.approx(1 / 3)
    assert box_iou(box, box + (0, 5, 0)) == 0


def test_worst_chamfer_bounds_every_cloud_inside_the_box():
    truth = np.random.default_rng(0).uniform(-1, 1, (200, 3)) * (1, 0.5, 0.2)
    corner = truth.max(axis=0)[None]
    assert CloudPair(corner, truth).match().chamfer < worst_chamfer(truth)


def test_normalisation_per_axis_hides_proportions_and_isotropic_keeps_them():
    box = np.array([[0, 0, 0], [4, 2, 0.0]])
    np.testing.assert_allclose(
        normalise_object(box, box, isotropic=False), [[-0.95, -0.95, 0], [0.95, 0.95, 0]]
    )
    np.testing.assert_allclose(
        normalise_object(box, box, isotropic=True), [[-0.95, -0.475, 0], [0.95, 0.475, 0]]
    )


def test_pose_differences_are_relative_to_the_query():
    def pose(translation, angle, scale):
        rotation = yaw(angle)[0].tolist()
        return torch.tensor([*translation, *rotation, scale], dtype=torch.float64)

    # The prediction is the truth seen from a frame that is turned, moved and twice as large.
    truth = {0: pose([0, 0, 0], 0, 1), 1: pose([1, 0, 0], 30, 0.5)}
    predicted = {0: pose([5, 0, 5], 90, 2), 1: pose([5, 0, 3], 130, 2.0)}
    errors = pose_differences(relative_poses(predicted, 0, [1]), relative_poses(truth, 0, [1]))
    assert float(errors["rotation_error_deg"]) == pytest.approx(10)
    assert float(errors["translation_error"]) == pytest.approx(0, abs=1e-9)
    assert float(errors["scale_ratio"]) == pytest.approx(2)
    assert float(errors["log_scale_error"]) == pytest.approx(np.log(2))


@pytest.mark.parametrize("order, expected", [(1, 170), (2, 10), (4, 10), (0, 0)])
def test_symmetric_target(order, expected):
    error = symmetric_rotation_errors_deg(yaw(170), yaw(0), [order], 1)
    assert float(error) == pytest.approx(expected, abs=1e-6)


def test_a_continuous_target_still_has_to_stand_upright():
    tilted = torch.tensor([[np.cos(0.1), np.sin(0.1), 0, 0]])  # about x
    assert float(symmetric_rotation_errors_deg(tilted, yaw(77), [0], 1)) == pytest.approx(np.rad2deg(0.2))


def test_a_symmetric_query_turns_all_targets_at_once():
    truth = yaw(0, 40, 80)
    turned = yaw(90, 130, 170)
    np.testing.assert_allclose(symmetric_rotation_errors_deg(turned, truth, [1, 1, 1], 4), 0, atol=1e-6)
    np.testing.assert_allclose(symmetric_rotation_errors_deg(turned, truth, [1, 1, 1], 2), 90, atol=1e-6)
    # Two targets turned differently cannot both be explained by one turn of the query.
    apart = symmetric_rotation_errors_deg(yaw(90, 40, 80), truth, [1, 1, 1], 4)
    assert sorted(apart.round().tolist()) == [0, 0, 90]


def test_a_continuous_query_takes_the_turn_of_least_mean_error():
    errors = symmetric_rotation_errors_deg(yaw(33, 73, 120), yaw(0, 40, 80), [1, 1, 1], 0)
    np.testing.assert_allclose(errors, [0, 0, 7], atol=1e-6)
