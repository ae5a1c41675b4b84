"""Quaternion algebra against matrices and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from trellis_modules.quaternions import (
    canonical_quaternion,
    matrix_to_quaternion,
    normalize_quaternion,
    quaternion_from_axis_angle,
    quaternion_multiply,
    quaternion_to_matrix,
)


def random_quaternions(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_matrices_agree_with_scipy() -> None:
    quaternions = random_quaternions(20)
    expected = Rotation.from_quat(quaternions.numpy()[:, [1, 2, 3, 0]]).as_matrix()
    np.testing.assert_allclose(quaternion_to_matrix(quaternions).numpy(), expected, atol=1e-12)


def test_turns_about_an_axis_agree_with_scipy() -> None:
    axis, angles = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64), torch.linspace(-4, 4, 9).double()
    expected = Rotation.from_rotvec((angles[:, None] * axis).numpy()).as_matrix()
    turns = quaternion_from_axis_angle(axis, angles)
    np.testing.assert_allclose(quaternion_to_matrix(turns).numpy(), expected, atol=1e-12)


def test_product_is_the_product_of_the_matrices() -> None:
    left, right = random_quaternions(8), random_quaternions(8, seed=1)
    product = quaternion_to_matrix(quaternion_multiply(left, right))
    torch.testing.assert_close(product, quaternion_to_matrix(left) @ quaternion_to_matrix(right))
    torch.testing.assert_close(
        quaternion_multiply(left[0], right), quaternion_multiply(left[:1].expand(8, 4), right)
    )


def test_matrix_and_quaternion_round_trip() -> None:
    quaternions = canonical_quaternion(normalize_quaternion(random_quaternions(200)))
    back = matrix_to_quaternion(quaternion_to_matrix(quaternions))
    torch.testing.assert_close(canonical_quaternion(back), quaternions)
    largest = back.gather(-1, back.abs().argmax(dim=-1, keepdim=True))
    assert (largest > 0).all()


@pytest.mark.parametrize("axis", [(1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0), (0.6, 0.8, 0), (-0.6, 0, 0.8)])
def test_half_turns_come_back(axis: tuple[float, float, float]) -> None:
    half_turn = torch.tensor([0.0, *axis], dtype=torch.float64)
    back = matrix_to_quaternion(quaternion_to_matrix(half_turn))
    assert abs(float(back @ half_turn)) == pytest.approx(1)


def test_zero_means_no_rotation_and_has_a_finite_gradient() -> None:
    quaternion = torch.zeros(4, requires_grad=True)
    matrix = quaternion_to_matrix(quaternion)
    assert torch.equal(matrix, torch.eye(3))
    matrix.square().sum().backward()
    assert torch.isfinite(quaternion.grad).all()
