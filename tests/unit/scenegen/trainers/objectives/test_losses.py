"""Loss terms against numbers worked out by hand."""

import math

import pytest
import torch

from scenegen.trainers.objectives.losses import (
    dice_loss,
    kl_divergence,
    occupancy_iou,
    pose_errors,
    scene_extent,
)

# Two assets besides the query: 2 to its right, and 1 above it at half the size, turned by 90 degrees about y.
POSES = torch.tensor(
    [[[0, 0, 0, 1, 0, 0, 0, 1], [2, 0, 0, 1, 0, 0, 0, 2], [0, 1, 0, 0.5**0.5, 0, 0.5**0.5, 0, 0.5]]]
)  # fmt: skip
COUNTED = torch.tensor([[False, True, True]])
SMOOTH = 0.02


def errors(predicted, counted=COUNTED):
    return {name: float(value) for name, value in pose_errors(predicted, POSES, counted, SMOOTH).items()}


def changed(asset, column, value):
    poses = POSES.clone()
    poses[0, asset, column] += value
    return poses


def test_kl_divergence():
    assert kl_divergence(torch.zeros(3, 2), torch.zeros(3, 2)) == 0
    value = kl_divergence(torch.tensor([2.0]), torch.tensor([math.log(4.0)]))
    assert value == pytest.approx(0.5 * (4 + 4 - math.log(4.0) - 1))


def test_dice_and_iou_of_a_grid_that_is_half_right():
    target = torch.zeros(2, 1, 4, 4, 4, dtype=torch.bool)
    target[:, :, :2] = True  # 32 voxels
    logits = torch.where(target, 50.0, -50.0)
    assert dice_loss(logits, target) == pytest.approx(0, abs=1e-6)
    assert occupancy_iou(logits, target) == 1
    shifted = logits.roll(1, 2)  # 16 of the 32 in common
    assert dice_loss(shifted, target) == pytest.approx(1 - (2 * 16 + 1) / (64 + 1))
    assert occupancy_iou(shifted, target) == pytest.approx(16 / 48)


def test_iou_of_two_empty_grids_is_finite():
    empty = torch.zeros(1, 1, 2, 2, 2)
    assert occupancy_iou(empty - 1, empty) == 0


def test_scene_extent_spans_the_boxes_of_the_assets():
    assert scene_extent(POSES).tolist() == [[[3.5, 2.25, 2.0]]]
    assert scene_extent(torch.zeros(1, 1, 8)).tolist() == [[[pytest.approx(0.01)] * 3]]


def test_true_poses_have_no_error_whatever_the_sign_of_the_quaternion():
    flipped = POSES.clone()
    flipped[..., 3:7] *= -1
    for poses in (POSES, flipped):
        assert errors(poses) == pytest.approx({"translation": 0, "rotation": 0, "scale": 0}, abs=1e-7)


def test_errors_are_in_units_of_the_scene_and_of_the_asset():
    # Beyond the smooth part the error is |difference| - smooth / 2; means are over axes and two assets.
    along_x = errors(changed(1, 0, 0.7))
    expected = (0.7 / 3.5 - SMOOTH / 2) / 3 / 2
    assert along_x == pytest.approx({"translation": expected, "rotation": 0, "scale": 0})
    assert errors(changed(2, 7, 0.25))["scale"] == pytest.approx((0.25 / 0.5 - SMOOTH / 2) / 2)
    assert errors(changed(1, 3, 0.4))["rotation"] == pytest.approx((0.4 - SMOOTH / 2) / 4 / 2)
    small = errors(changed(1, 7, 0.02))["scale"]
    assert small == pytest.approx(0.5 * (0.02 / 2) ** 2 / SMOOTH / 2)


def test_assets_that_are_not_counted_have_no_part():
    for asset in (0, 2):
        poses = changed(asset, slice(None), 3.0)
        assert sum(errors(poses, torch.tensor([[False, True, False]])).values()) < 1e-6
    nothing = errors(POSES + 1, torch.zeros(1, 3, dtype=torch.bool))
    assert nothing == {"translation": 0, "rotation": 0, "scale": 0}
