"""Complete model: which heads run, and the released sizes."""

from __future__ import annotations

import pytest
import torch

from vggt.models.vggt import VGGT

DENSE = {"features": 8, "out_channels": [8, 8, 8, 8], "intermediate_layer_idx": [0, 0, 1, 1]}
TRACK = DENSE | {"corr_levels": 2, "corr_radius": 1, "hidden_size": 16}
NO_HEADS = {"camera_head": None, "point_head": None, "depth_head": None, "track_head": None}


def tiny(**heads: object) -> VGGT:
    torch.manual_seed(0)
    aggregator = {"depth": 2, "num_heads": 2, "patch_embed": "conv"}
    return VGGT(28, 14, 16, aggregator=aggregator, **(NO_HEADS | heads)).eval()


def test_only_built_heads_predict() -> None:
    images = torch.rand(2, 3, 28, 42)
    assert set(tiny()(images)) == {"images"}
    predictions = tiny(camera_head={"trunk_depth": 1, "num_heads": 2}, depth_head=DENSE)(images)
    assert {name: tuple(value.shape) for name, value in predictions.items()} == {
        "images": (1, 2, 3, 28, 42),
        "pose_enc": (1, 2, 9),
        "depth": (1, 2, 28, 42, 1),
        "depth_conf": (1, 2, 28, 42),
    }


def test_heads_run_in_float32_under_autocast() -> None:
    model = tiny(depth_head=DENSE)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(torch.rand(1, 3, 28, 28))["depth"].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_points_are_tracked_through_all_frames(dtype: torch.dtype) -> None:
    predictions = tiny(track_head=TRACK).to(dtype)(
        torch.rand(3, 3, 28, 42), torch.tensor([[4.0, 8.0], [30.0, 20.0]])
    )
    assert predictions["track"].shape == (1, 3, 2, 2)
    assert predictions["vis"].shape == predictions["conf"].shape == (1, 3, 2)


def test_tracking_needs_the_track_head() -> None:
    with pytest.raises(ValueError, match="track_head=None"):
        tiny()(torch.rand(1, 3, 28, 28), torch.zeros(1, 2))
