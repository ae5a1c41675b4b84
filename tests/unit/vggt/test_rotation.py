"""Quaternions and matrices agree in both directions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vggt.rotation import matrix_to_xyzw, xyzw_to_matrix


def test_quarter_turn_about_z() -> None:
    half = 0.5**0.5
    matrix = xyzw_to_matrix(torch.tensor([0.0, 0.0, half, half]))
    torch.testing.assert_close(matrix, torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), atol=1e-6, rtol=0)


def test_length_of_the_quaternion_does_not_matter() -> None:
    quaternion = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(xyzw_to_matrix(3 * quaternion), xyzw_to_matrix(quaternion))


@pytest.mark.parametrize("axis", torch.eye(3).unbind())
def test_half_turns_survive_the_round_trip(axis: Tensor) -> None:
    matrix = xyzw_to_matrix(torch.cat((axis, torch.zeros(1))))
    torch.testing.assert_close(xyzw_to_matrix(matrix_to_xyzw(matrix)), matrix)


def test_random_quaternions_survive_the_round_trip_with_positive_real_part() -> None:
    quaternion = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    expected = quaternion * quaternion[:, 3:].sign()
    torch.testing.assert_close(matrix_to_xyzw(xyzw_to_matrix(quaternion)), expected, atol=1e-5, rtol=0)


def test_gradient_at_the_identity_is_finite() -> None:
    matrix = torch.eye(3, requires_grad=True)
    matrix_to_xyzw(matrix).sum().backward()
    assert torch.isfinite(matrix.grad).all()
