"""Dense head: chunking, the residual of its convolution units, and errors."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from vggt.heads.dpt_head import DPTHead, ResidualConvUnit
from vggt.heads.head_activations import activate_head


def tiny(**overrides: object) -> DPTHead:
    torch.manual_seed(0)
    sizes = {"dim_in": 16, "features": 8, "out_channels": [8] * 4, "intermediate_layer_idx": [0, 0, 1, 1]}
    return DPTHead(**(sizes | overrides)).eval()


def tokens(frames: int = 3) -> list[torch.Tensor]:
    return list(torch.randn(2, 1, frames, 5 + 2 * 3, 16, generator=torch.Generator().manual_seed(0)))


def test_chunks_do_not_change_the_result() -> None:
    head = tiny()
    expected = head(tokens(), (28, 42), 5, frames_chunk_size=None)
    torch.testing.assert_close(head(tokens(), (28, 42), 5, frames_chunk_size=2), expected)


def test_residual_is_the_rectified_input_and_the_input_survives() -> None:
    torch.manual_seed(0)
    unit = ResidualConvUnit(4)
    x = torch.randn(1, 4, 5, 5)
    before = x.clone()
    expected = unit.conv2(F.relu(unit.conv1(F.relu(x)))) + F.relu(x)
    torch.testing.assert_close(unit(x), expected)
    assert torch.equal(x, before)


def test_too_few_rounds_are_named() -> None:
    with pytest.raises(ValueError, match="at least 2 aggregator rounds, got 1"):
        tiny()(tokens()[:1], (28, 42), 5)


def test_wrong_image_size_is_named() -> None:
    with pytest.raises(ValueError, match="a 28x28 image has 4 patches, but the tokens hold 6"):
        tiny()(tokens(), (28, 28), 5)


def test_four_levels_are_needed() -> None:
    with pytest.raises(ValueError, match="four entries each"):
        tiny(out_channels=[8, 8, 8])


@pytest.mark.parametrize(
    "activation, conf_activation, unknown", [("tanh", "expp1", "tanh"), ("exp", "exp", "exp")]
)
def test_unknown_activation_is_named(activation: str, conf_activation: str, unknown: str) -> None:
    with pytest.raises(ValueError, match=f"unknown name '{unknown}'"):
        tiny(activation=activation, conf_activation=conf_activation)


def test_xy_inverse_log_scales_xy_by_depth() -> None:
    maps = torch.tensor([0.5, -2.0, -1.0, 0.0]).view(1, 4, 1, 1)
    values, confidence = activate_head(maps, "xy_inv_log", "expp1")
    depth = 1 - torch.e
    torch.testing.assert_close(values.flatten(), torch.tensor([0.5 * depth, -2.0 * depth, depth]))
    assert confidence.item() == 2
