"""Loading the complete model: strictly, and with messages that name the file and the tensor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vggt.checkpoint import VggtCheckpointError, load_vggt
from vggt.models.vggt import VGGT

ARGS = {
    "img_size": 28,
    "embed_dim": 16,
    "aggregator": {"depth": 1, "num_heads": 2, "patch_embed": "conv"},
    "camera_head": {"trunk_depth": 1, "num_heads": 2},
    "point_head": None,
    "depth_head": None,
    "track_head": None,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    state = {name: tensor.half() for name, tensor in VGGT(**ARGS).state_dict().items()}
    (tmp_path / "config.json").write_text(json.dumps(ARGS))
    save_file(state, tmp_path / "model.safetensors")
    return tmp_path


def test_half_weights_on_disk_compute_in_float32(folder: Path) -> None:
    model = load_vggt(folder)
    stored = load_file(folder / "model.safetensors")
    assert not model.training and model.img_size == 28
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, stored[name].float())
    assert model(torch.rand(1, 3, 28, 28))["pose_enc"].shape == (1, 1, 9)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda state: state.pop("camera_head.embed_pose.bias"),
            "lacks tensor 'camera_head.embed_pose.bias'",
        ),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected tensor 'extra'"),
        (
            lambda state: state.update({"aggregator.camera_token": torch.zeros(1, 2, 1, 8)}),
            r"camera_token' has shape \(1, 2, 1, 8\), expected \(1, 2, 1, 16\)",
        ),
    ],
)
def test_weights_must_fit(folder: Path, change, message: str) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(VggtCheckpointError, match=message):
        load_vggt(folder)


@pytest.mark.parametrize(
    "config, message",
    [
        ("{", "not a readable JSON"),
        ("[]", "expected an object"),
        ('{"name": "Other", "args": {}}', "checkpoint of VGGT, got 'Other'"),
        ('{"depth": 2}', "unexpected keyword argument 'depth'"),
        ('{"aggregator": {"patch_embed": "resnet"}}', "config.json: .*'resnet'"),
    ],
)
def test_configuration_must_be_readable(folder: Path, config: str, message: str) -> None:
    (folder / "config.json").write_text(config)
    with pytest.raises(VggtCheckpointError, match=message):
        load_vggt(folder)


def test_truncated_weights_and_missing_files(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(VggtCheckpointError, match="truncated or damaged"):
        load_vggt(folder)
    weights.unlink()
    with pytest.raises(VggtCheckpointError, match="expected .*model.safetensors; the released weights are"):
        load_vggt(folder)
