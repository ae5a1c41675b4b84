"""Loss terms against numbers worked out by hand."""

import math

import pytest
import torch

from scenegen.trainers.objectives.losses import dice_loss, kl_divergence, occupancy_iou


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
