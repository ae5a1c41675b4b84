"""Rotation matrices and quaternions in VGGT's order, xyzw (the scene's poses elsewhere are wxyz)."""

from __future__ import annotations

import torch
from torch import Tensor


def xyzw_to_matrix(quaternion: Tensor) -> Tensor:
    """Convert quaternions (..., 4), xyzw and of any non-zero length, to rotation matrices (..., 3, 3)."""
    i, j, k, r = quaternion.unbind(-1)
    two_s = 2 / quaternion.square().sum(dim=-1)
    elements = (
        1 - two_s * (j * j + k * k), two_s * (i * j - k * r), two_s * (i * k + j * r),
        two_s * (i * j + k * r), 1 - two_s * (i * i + k * k), two_s * (j * k - i * r),
        two_s * (i * k - j * r), two_s * (j * k + i * r), 1 - two_s * (i * i + j * j),
    )  # fmt: skip
    return torch.stack(elements, dim=-1).unflatten(-1, (3, 3))


def matrix_to_xyzw(matrix: Tensor) -> Tensor:
    """Convert rotation matrices (..., 3, 3) to unit quaternions (..., 4), xyzw, with w >= 0.

    Of the four closed forms (one per component) the one with the largest component is used, which stays
    accurate for every rotation, half turns included.
    """
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = matrix.flatten(-2).unbind(-1)
    # Twice the magnitudes of w, x, y, z.
    doubled = _safe_sqrt(
        torch.stack(
            (1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22), dim=-1
        )
    )
    w2, x2, y2, z2 = doubled.square().unbind(-1)
    # Row c is the wxyz quaternion times 4 |component c|.
    candidates = torch.stack(
        (
            torch.stack((w2, m21 - m12, m02 - m20, m10 - m01), dim=-1),
            torch.stack((m21 - m12, x2, m10 + m01, m02 + m20), dim=-1),
            torch.stack((m02 - m20, m10 + m01, y2, m12 + m21), dim=-1),
            torch.stack((m10 - m01, m20 + m02, m21 + m12, z2), dim=-1),
        ),
        dim=-2,
    )
    # The floor only keeps the unused candidates finite: the largest component is at least 1/2.
    candidates = candidates / (2 * doubled.clamp(min=0.1)[..., None])
    best = doubled.argmax(dim=-1)[..., None, None].expand(*doubled.shape[:-1], 1, 4)
    wxyz = candidates.gather(-2, best).squeeze(-2)
    xyzw = wxyz.roll(-1, dims=-1)
    return torch.where(xyzw[..., 3:] < 0, -xyzw, xyzw)


def _safe_sqrt(x: Tensor) -> Tensor:
    """Square root, with value and gradient 0 where x is not positive."""
    positive = x > 0
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)
