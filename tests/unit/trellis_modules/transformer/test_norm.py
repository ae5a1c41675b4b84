"""Norms that compute in float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from trellis_modules.transformer import ChannelLayerNorm32, GroupNorm32, LayerNorm32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_normalised_in_float32(dtype: torch.dtype) -> None:
    # Squares of these values overflow float16.
    x = (torch.randn(2, 3, 64) * 500 + 1000).to(dtype)
    y = LayerNorm32(64, elementwise_affine=False)(x)
    assert y.dtype == dtype
    # Rounded once, from sums in another order.
    expected = F.layer_norm(x.float(), (64,)).to(dtype)
    torch.testing.assert_close(y, expected, rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_channel_norm_normalises_each_voxel() -> None:
    x = torch.randn(2, 8, 3, 4, 5) * 7 + 3
    y = ChannelLayerNorm32(8)(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y.mean(1), torch.zeros(2, 3, 4, 5), rtol=0, atol=1e-5)
    torch.testing.assert_close(y.var(1, unbiased=False), torch.ones(2, 3, 4, 5), rtol=1e-3, atol=1e-3)


def test_group_norm_keeps_the_dtype() -> None:
    x = torch.randn(1, 64, 2, 2, 2).half()
    y = GroupNorm32(32, 64)(x)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.reshape(32, -1).float().mean(1), torch.zeros(32), rtol=0, atol=1e-3)
