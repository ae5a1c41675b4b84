"""State dicts of the released sizes: every name, shape and dtype, without allocating the weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from scenegen.models.registry import build_model
from vggt.layers.vision_transformer import VisionTransformer

MANIFESTS = sorted((Path(__file__).resolve().parent.parent / "data" / "manifests").glob("*.json"))


def _dinov2_vit_large(args: Mapping[str, Any]) -> VisionTransformer:
    """The manifest gives the arguments of the hub entry point, which fixes the sizes of ViT-L."""
    fixed_by_the_architecture = {"block_chunks", "ffn_layer"}
    return VisionTransformer(
        embed_dim=1024,
        depth=24,
        num_heads=16,
        mlp_ratio=4.0,
        **{key: value for key, value in args.items() if key not in fixed_by_the_architecture},
    )


#: Classes in manifests that are no names of our registry.
BUILDERS: dict[str, Callable[[Mapping[str, Any]], nn.Module]] = {
    "dinov2 vit_large with registers": _dinov2_vit_large,
}


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_state_dict_matches_manifest(path: Path) -> None:
    manifest = json.loads(path.read_text())
    config = manifest.get("config", manifest)  # the structured-latent files name their parts otherwise
    name, args = config["class"], config["args"]
    parameters = manifest.get("parameters", manifest.get("params"))
    count = manifest.get("total_parameters", manifest.get("num_params"))
    with torch.device("meta"):
        model = (
            BUILDERS[name](args) if name in BUILDERS else build_model({"name": name, "args": args}, path.name)
        )
    expected = {
        key: (tuple(entry["shape"]), entry["dtype"])
        for key, entry in {**parameters, **manifest["buffers"]}.items()
    }
    actual = {
        key: (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        for key, tensor in model.state_dict().items()
    }
    assert actual == expected
    assert sum(parameter.numel() for parameter in model.parameters()) == count
