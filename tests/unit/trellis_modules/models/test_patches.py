"""Patches of volumes."""

from __future__ import annotations

import pytest
import torch

from trellis_modules.models.patches import patchify, unpatchify


@pytest.mark.parametrize("patch_size", [1, 2, 4])
def test_round_trip(patch_size: int) -> None:
    x = torch.randn(2, 3, 4, 8, 4)
    folded = patchify(x, patch_size)
    assert folded.shape == (2, 3 * patch_size**3, 4 // patch_size, 8 // patch_size, 4 // patch_size)
    assert torch.equal(unpatchify(folded, patch_size), x)


def test_channel_order_is_channel_then_offset() -> None:
    x = torch.arange(2 * 4**3).reshape(1, 2, 4, 4, 4)
    folded = patchify(x, 2)
    channel, (a, b, d) = 1, (1, 0, 1)
    assert folded[0, channel * 8 + a * 4 + b * 2 + d, 1, 0, 1] == x[0, channel, 2 + a, b, 2 + d]
