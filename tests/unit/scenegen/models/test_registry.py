"""Checkpoint names of the whole project."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from scenegen.models import SceneFlowModel
from scenegen.models.registry import build_model, load_checkpoint
from trellis_modules.checkpoint import save_checkpoint
from trellis_modules.config import ConfigError
from trellis_modules.models import SparseStructureFlowModel

FLOW = {
    "resolution": 2,
    "in_channels": 2,
    "out_channels": 2,
    "model_channels": 8,
    "cond_channels": 8,
    "num_blocks": 1,
    "num_heads": 2,
    "patch_size": 1,
    "trunk_depth": 1,
}


@pytest.mark.parametrize(
    "use_global, expected",
    [(True, SceneFlowModel), (False, SparseStructureFlowModel), (None, SparseStructureFlowModel)],
)
def test_released_name_resolves_by_use_global(use_global: bool | None, expected: type) -> None:
    args = FLOW if use_global is None else {**FLOW, "use_global": use_global}
    assert type(build_model({"name": "SparseStructureFlowModel", "args": args})) is expected


def test_scene_arguments_are_checked_without_scene_attention_too() -> None:
    with pytest.raises(ConfigError, match="f.json: trunk_depth: expected int, got '1'"):
        build_model({"name": "SparseStructureFlowModel", "args": {**FLOW, "trunk_depth": "1"}}, "f.json")


def test_scene_checkpoint_round_trip(tmp_path: Path) -> None:
    model = build_model({"name": "SparseStructureFlowModel", "args": {**FLOW, "use_global": True}}).eval()
    save_checkpoint(model, tmp_path / "flow", dtype=torch.float32)
    x, t, cond = torch.randn(2, 2, 2, 2, 2), torch.rand(2), torch.randn(2, 5, 8)
    loaded = load_checkpoint(tmp_path / "flow")
    assert torch.equal(
        loaded(x, t, cond, num_object_tokens=3).extras["positions"],
        model(x, t, cond, num_object_tokens=3).extras["positions"],
    )


def test_encoders_round_trip_with_their_constants(tmp_path: Path) -> None:
    args = {"img_size": 28, "patch_size": 14, "embed_dim": 16, "depth": 1, "num_heads": 2}
    encoder = build_model({"name": "VisionTransformer", "args": args}).eval()
    save_checkpoint(encoder, tmp_path / "dino", dtype=torch.float32)
    images = torch.randn(1, 3, 28, 28)
    torch.testing.assert_close(load_checkpoint(tmp_path / "dino")(images), encoder(images))
