"""Rigid transforms and depth unprojection."""

from __future__ import annotations

import pytest
import torch

from vggt.geometry import depth_to_camera_points, depth_to_world_points, invert_se3
from vggt.pose_encoding import cameras_to_encoding, encoding_to_extrinsics, encoding_to_intrinsics

ENCODING = torch.tensor([[0.3, -0.2, 1.5, 0.1, -0.4, 0.2, 0.8, 0.9, 1.2], [0, 0, 0, 0, 0, 0, 1, 1.0, 0.7]])
IMAGE_SIZE = (6, 9)


@pytest.mark.parametrize("rows", [3, 4])
def test_inverse_undoes_the_transform(rows: int) -> None:
    extrinsics = encoding_to_extrinsics(ENCODING)
    full = torch.cat((extrinsics, torch.tensor([[[0.0, 0, 0, 1]]]).expand(2, -1, -1)), dim=1)
    product = invert_se3(full[:, :rows]) @ full
    torch.testing.assert_close(product, torch.eye(4).expand(2, -1, -1), atol=1e-6, rtol=0)


def test_inverse_rejects_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 3, 3\)"):
        invert_se3(torch.zeros(2, 3, 3))


def test_world_points_project_back_to_their_pixels() -> None:
    extrinsics, intrinsics = encoding_to_extrinsics(ENCODING), encoding_to_intrinsics(ENCODING, IMAGE_SIZE)
    depth = 1 + torch.rand(2, *IMAGE_SIZE, generator=torch.Generator().manual_seed(0))
    world = depth_to_world_points(depth, extrinsics, intrinsics)
    camera = torch.einsum("sij,shwj->shwi", extrinsics[:, :, :3], world) + extrinsics[:, None, None, :, 3]
    pixels = torch.einsum("sij,shwj->shwi", intrinsics, camera)
    pixels = pixels[..., :2] / pixels[..., 2:]
    row, column = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    torch.testing.assert_close(
        pixels, torch.stack((column, row), dim=-1).expand(2, -1, -1, -1), atol=1e-4, rtol=0
    )


def test_mask_marks_positive_depth() -> None:
    depth = torch.tensor([[0.0, 1.0], [-1.0, 1e-9]])
    _, mask = depth_to_camera_points(depth, torch.eye(3))
    assert mask.tolist() == [[False, True], [False, False]]


def test_encoding_round_trip_of_a_non_square_image() -> None:
    decoded = encoding_to_extrinsics(ENCODING), encoding_to_intrinsics(ENCODING, IMAGE_SIZE)
    assert decoded[1][0, :2, 2].tolist() == [4.5, 3.0]
    expected = ENCODING.clone()
    expected[:, 3:7] /= expected[:, 3:7].norm(dim=-1, keepdim=True)
    torch.testing.assert_close(cameras_to_encoding(*decoded, IMAGE_SIZE), expected)
