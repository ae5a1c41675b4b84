"""Camera head: iterations and their gradients."""

from __future__ import annotations

import pytest
import torch

from vggt.heads.camera_head import CameraHead


def tiny() -> CameraHead:
    torch.manual_seed(0)
    return CameraHead(dim_in=16, trunk_depth=1, num_heads=2)


def test_fields_of_view_are_never_negative() -> None:
    poses = tiny()(5 * torch.randn(2, 8, 3, 16), num_iterations=3)
    assert [tuple(pose.shape) for pose in poses] == [(2, 8, 9)] * 3
    assert min(pose[..., 7:].min() for pose in poses) == 0
    assert poses[-1][..., :7].min() < 0


def test_only_the_camera_token_is_read() -> None:
    head, tokens = tiny(), torch.randn(1, 2, 4, 16)
    changed = torch.cat((tokens[:, :, :1], torch.zeros(1, 2, 3, 16)), dim=2)
    assert torch.equal(head(tokens)[-1], head(changed)[-1])


def test_corrections_do_not_differentiate_through_earlier_poses() -> None:
    head = tiny()
    first, second = head(torch.randn(1, 1, 2, 16), num_iterations=2)
    (second[..., :7] - first[..., :7]).sum().backward()
    # The empty pose only reaches the second correction through the first pose, which is detached.
    assert head.empty_pose_tokens.grad is None or head.empty_pose_tokens.grad.abs().max() < 1e-6


def test_needs_an_iteration() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        tiny()(torch.zeros(1, 1, 1, 16), num_iterations=0)
