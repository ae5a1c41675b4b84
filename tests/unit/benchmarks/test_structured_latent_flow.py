"""The benchmark of the structured-latent flow: its cases, and that its parts cover the model."""

from __future__ import annotations

import pytest
import torch

from benchmarks.structured_latent_flow import PARTS, asset_sizes, make_inputs, part_times, stages
from trellis_modules.models import SLatFlowModel, build_model

SIZES = {
    "resolution": 64,
    "in_channels": 2,
    "out_channels": 2,
    "model_channels": 16,
    "cond_channels": 8,
    "num_blocks": 2,
    "num_heads": 2,
    "patch_size": 2,
    "io_block_channels": [8],
}


@pytest.fixture
def model() -> SLatFlowModel:
    return build_model({"name": "SLatFlowModel", "args": SIZES}).eval()


@pytest.mark.parametrize("assets", [1, 2, 4])
def test_unequal_assets_hold_as_many_voxels(assets: int) -> None:
    sizes = asset_sizes(assets, 100, unequal=True)
    assert sum(sizes) == assets * 100 and len(set(sizes)) == assets
    assert asset_sizes(assets, 100, unequal=False) == [100] * assets


@torch.inference_mode()
def test_parts_and_stages_of_a_pass(model: SLatFlowModel) -> None:
    inputs = make_inputs(model, [30, 20], torch.device("cpu"))
    assert inputs[0].lengths == (30, 20)
    times = part_times(model, inputs, torch.device("cpu"), repeats=1)
    assert list(times) == [*PARTS, "rest", "sum"] and min(times.values()) > 0
    velocities = [run().velocity.feats for run in stages(model, inputs, cuda_graph=False).values()]
    for velocity in velocities[1:]:
        torch.testing.assert_close(velocity, velocities[0])
    assert not any(module._forward_hooks for module in model.modules())
