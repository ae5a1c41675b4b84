"""Where the clip-space matrix puts known points."""

import pytest
import torch

from trellis_modules.renderers.projection import intrinsics_to_projection

INTRINSICS = torch.tensor([[1.2, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]])


def test_depth_range_and_border():
    projection = intrinsics_to_projection(INTRINSICS, near=0.5, far=4)
    corner = 0.5 / 1.2  # the picture's border at depth 1
    points = torch.tensor([[0, 0, 0.5, 1], [0, 0, 4, 1], [corner, corner, 1, 1]])
    clip = points @ projection.mT
    normalised = clip[:, :3] / clip[:, 3:]
    torch.testing.assert_close(normalised[:2, 2], torch.tensor([0.0, 1.0]), rtol=0, atol=1e-6)
    torch.testing.assert_close(normalised[2, :2], torch.ones(2))


def test_depths_out_of_order():
    with pytest.raises(ValueError, match="near 2, far 1"):
        intrinsics_to_projection(INTRINSICS, near=2, far=1)
