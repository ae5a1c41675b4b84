"""Quaternion algebra against matrices."""

import torch

from trellis_modules.representations.rotation import (
    matrix_to_quaternion,
    quaternion_product,
    quaternion_to_matrix,
)


def random_quaternions(count, seed=0):
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_product_is_the_product_of_the_matrices():
    left, right = random_quaternions(8), random_quaternions(8, seed=1)
    product = quaternion_to_matrix(quaternion_product(left, right))
    torch.testing.assert_close(product, quaternion_to_matrix(left) @ quaternion_to_matrix(right))


def test_matrices_are_rotations_and_convert_back():
    half_turns = torch.eye(4, dtype=torch.float64)  # the identity and the three turns with w = 0
    for quaternion in torch.cat([random_quaternions(8), half_turns]):
        matrix = quaternion_to_matrix(quaternion)
        torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3, dtype=torch.float64))
        back = matrix_to_quaternion(matrix)
        assert back[back.abs().argmax()] > 0
        torch.testing.assert_close(quaternion_to_matrix(back), matrix)
