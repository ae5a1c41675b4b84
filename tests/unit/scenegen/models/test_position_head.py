"""The pose head: encodings, refinement passes, activation."""

from __future__ import annotations

import pytest
import torch

from scenegen.models import PositionHead
from tests.parity.fill_weights import fill_module


def test_euler_encoding_has_seven_numbers() -> None:
    head = fill_module(
        PositionHead(16, trunk_depth=1, num_heads=2, pose_encoding_type="absT_eulerR_S")
    ).eval()
    poses = head(torch.randn(3, 1, 16), torch.tensor([False, True, False]))
    assert poses.shape == (3, 7)
    assert poses[1].tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_scale_is_never_negative_and_the_rest_is_free() -> None:
    head = fill_module(PositionHead(16, trunk_depth=1, num_heads=2)).train()
    generator = torch.Generator().manual_seed(0)
    poses = head(torch.randn(200, 1, 16, generator=generator), torch.zeros(200, dtype=torch.bool))
    assert poses[:, 7].min() == 0
    assert (poses[:, :7].min(0).values < 0).all()


def test_each_pass_depends_on_the_pose_before() -> None:
    head = fill_module(PositionHead(16, trunk_depth=1, num_heads=2)).train()
    token, no_query = torch.randn(2, 1, 16), torch.zeros(2, dtype=torch.bool)
    first, second, third = (head(token, no_query, passes)[:, :7] for passes in (1, 2, 3))
    assert (third - second - (second - first)).abs().max() > 1e-3


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"pose_encoding_type": "absT_quatR"}, "pose_encoding_type must be one of"),
        ({"num_iteration": 0}, "num_iteration must be at least 1, got 0"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PositionHead(16, **arguments)
