"""Quaternions (w, x, y, z) of Gaussians and rotation matrices."""

from __future__ import annotations

import torch
from torch import Tensor


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3), acting on column vectors, of quaternions (..., 4) of any length."""
    w, x, y, z = torch.nn.functional.normalize(quaternion, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quaternion_product(left: Tensor, right: Tensor) -> Tensor:
    """The rotation ``right`` followed by ``left``: (..., 4); lengths multiply."""
    scalar = left[..., :1] * right[..., :1] - (left[..., 1:] * right[..., 1:]).sum(dim=-1, keepdim=True)
    left_vector, right_vector = torch.broadcast_tensors(left[..., 1:], right[..., 1:])
    vector = left[..., :1] * right_vector + right[..., :1] * left_vector
    return torch.cat([scalar, vector + torch.linalg.cross(left_vector, right_vector)], dim=-1)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternion (4,) of one rotation matrix (3, 3), its largest component positive.

    Four times its outer product with itself is linear in the rotation; the row with the largest diagonal
    entry is the one with the most digits.
    """
    xx, yy, zz = matrix.diagonal().unbind()
    xy, xz, yz = matrix[0, 1] + matrix[1, 0], matrix[0, 2] + matrix[2, 0], matrix[1, 2] + matrix[2, 1]
    wx, wy, wz = matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]
    outer = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, wx, wy, wz]),
            torch.stack([wx, 1 + xx - yy - zz, xy, xz]),
            torch.stack([wy, xy, 1 - xx + yy - zz, yz]),
            torch.stack([wz, xz, yz, 1 - xx - yy + zz]),
        ]
    )
    return torch.nn.functional.normalize(outer[outer.diagonal().argmax()], dim=0)
