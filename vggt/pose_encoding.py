"""Nine-number camera encoding: translation, quaternion xyzw, vertical and horizontal field of view.

Source: VGGT, arXiv:2503.11651, sec. 3.1 (there "absT_quaR_FoV").
"""

from __future__ import annotations

import torch
from torch import Tensor

from vggt.rotation import matrix_to_xyzw, xyzw_to_matrix


def cameras_to_encoding(extrinsics: Tensor, intrinsics: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Encode cameras; the principal point is not encoded.

    Args:
        extrinsics: (..., 3, 4) world to camera, OpenCV axes.
        intrinsics: (..., 3, 3) in pixels.
        image_size: height and width in pixels.

    Returns:
        (..., 9); fields of view in radians.
    """
    height, width = image_size
    fov_h = 2 * torch.atan(height / 2 / intrinsics[..., 1, 1])
    fov_w = 2 * torch.atan(width / 2 / intrinsics[..., 0, 0])
    quaternion = matrix_to_xyzw(extrinsics[..., :3, :3])
    return torch.cat((extrinsics[..., :3, 3], quaternion, torch.stack((fov_h, fov_w), dim=-1)), dim=-1)


def encoding_to_extrinsics(encoding: Tensor) -> Tensor:
    """Decode encodings (..., 9) to extrinsics (..., 3, 4), world to camera, OpenCV axes."""
    return torch.cat((xyzw_to_matrix(encoding[..., 3:7]), encoding[..., :3, None]), dim=-1)


def encoding_to_intrinsics(encoding: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Decode encodings (..., 9) to pixel intrinsics (..., 3, 3) with the principal point at the image centre.

    Args:
        encoding: (..., 9).
        image_size: height and width in pixels.
    """
    height, width = image_size
    fov_h, fov_w = encoding[..., 7], encoding[..., 8]
    focal_y = height / 2 / torch.tan(fov_h / 2)
    focal_x = width / 2 / torch.tan(fov_w / 2)
    zero, one = torch.zeros_like(fov_h), torch.ones_like(fov_h)
    rows = (focal_x, zero, one * (width / 2), zero, focal_y, one * (height / 2), zero, zero, one)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
