"""Parameter names and shapes of the released checkpoints, on the meta device."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from vggt.layers.vision_transformer import released_vision_transformer
from vggt.models.vggt import VGGT

MANIFESTS = Path(__file__).resolve().parents[3] / "data" / "manifests"


@pytest.mark.parametrize(
    "manifest, build",
    [
        ("vggt_1b", VGGT),
        ("dinov2_vitl14_reg", lambda: released_vision_transformer("dinov2_vitl14_reg")),
    ],
)
def test_state_dict_matches_the_release(manifest: str, build: Callable[[], nn.Module]) -> None:
    released = json.loads((MANIFESTS / f"{manifest}.json").read_text())
    assert not released["buffers"]
    with torch.device("meta"):
        state = build().state_dict()
    expected = {name: tuple(entry["shape"]) for name, entry in released["parameters"].items()}
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected
    assert sum(tensor.numel() for tensor in state.values()) == released["total_parameters"]
