"""Quaternions (w, x, y, z) as rotations.

Every function is batched over leading axes, keeps device and dtype, and is differentiable. A quaternion that
is turned into a matrix need not have unit length, and a zero quaternion means no rotation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_EPS = 1e-8


def normalize_quaternion(quaternion: Tensor) -> Tensor:
    """Scale quaternions (..., 4), wxyz, to unit length; one of (almost) zero length becomes the identity."""
    norm = quaternion.norm(dim=-1, keepdim=True)
    identity = torch.zeros_like(quaternion)
    identity[..., 0] = 1.0
    return torch.where(norm > _EPS, quaternion / norm.clamp_min(_EPS), identity)


def quaternion_multiply(left: Tensor, right: Tensor) -> Tensor:
    """Hamilton product (..., 4), wxyz: the rotation that applies ``right`` first, then ``left``."""
    w1, x1, y1, z1 = left.unbind(-1)
    w2, x2, y2, z2 = right.unbind(-1)
    return torch.stack(
        (
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ),
        dim=-1,
    )


def quaternion_conjugate(quaternion: Tensor) -> Tensor:
    """The opposite rotation of unit quaternions (..., 4), wxyz."""
    return quaternion * quaternion.new_tensor([1.0, -1.0, -1.0, -1.0])


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3), acting on column vectors, of quaternions (..., 4), wxyz, any length."""
    w, x, y, z = normalize_quaternion(quaternion).unbind(-1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), dim=-1),
        torch.stack((2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)), dim=-1),
        torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), dim=-1),
    )
    return torch.stack(rows, dim=-2)


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """Unit quaternions (..., 4), wxyz, their largest component positive, of rotation matrices (..., 3, 3).

    Each of the four components can be recovered from the diagonal and the other three from it; the largest
    one is used, so that the result is accurate for every angle, 180 degrees included.
    """
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    diagonal = m.diagonal(dim1=-2, dim2=-1)
    four_squares = torch.cat((trace[..., None], 2 * diagonal - trace[..., None]), dim=-1) + 1  # 4*(w,x,y,z)^2
    wx, wy, wz = (m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1])
    xy, xz, yz = (m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2])
    ww, xx, yy, zz = four_squares.unbind(-1)
    # Row k is 4 * q_k * (w, x, y, z).
    candidates = torch.stack(
        (
            torch.stack((ww, wx, wy, wz), dim=-1),
            torch.stack((wx, xx, xy, xz), dim=-1),
            torch.stack((wy, xy, yy, yz), dim=-1),
            torch.stack((wz, xz, yz, zz), dim=-1),
        ),
        dim=-2,
    )
    largest = four_squares.argmax(dim=-1)[..., None, None].expand(*four_squares.shape[:-1], 1, 4)
    return F.normalize(candidates.gather(-2, largest).squeeze(-2), dim=-1)


def canonical_quaternion(quaternion: Tensor) -> Tensor:
    """Choose the sign with w >= 0 of quaternions (..., 4), wxyz; q and -q are the same rotation."""
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def quaternion_from_axis_angle(axis: Tensor, angle: Tensor) -> Tensor:
    """Unit quaternions (..., 4), wxyz, of turns by ``angle`` (...) radians about one unit ``axis`` (3,)."""
    half = angle[..., None] / 2
    return torch.cat((torch.cos(half), torch.sin(half) * axis.to(half)), dim=-1)
