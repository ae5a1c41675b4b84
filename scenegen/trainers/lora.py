"""Low-rank adapters (LoRA) in the files of the package PEFT, merged into the weights that they change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from safe_files.regular import shown
from trellis_modules.checkpoint import PICKLE_SUFFIXES, CheckpointError, read_state, refuse_pickle
from trellis_modules.config import ConfigError, load_json

WEIGHTS_FILE, CONFIG_FILE = "adapter_model.safetensors", "adapter_config.json"
RELEASED_ALPHA = 128.0
"""Of released training, which keeps no configuration beside the weights; its rank is 64."""

_FACTOR = re.compile(r"^(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<which>[AB])(?:\.\w+)?\.weight$")


def merge_adapter(models: Mapping[str, nn.Module], path: Path, where: str) -> str:
    """Add the change that an adapter describes to the weights of the network it was made for.

    Args:
        models: by role; one of them is changed in place.
        path: folder with ``adapter_model.safetensors`` and perhaps ``adapter_config.json``, or the former.
        where: begins the messages.

    Returns:
        The role of the network.

    Raises:
        CheckpointError: files are missing or damaged, or the adapter is of none of the networks.

    Source: LoRA, arXiv:2106.09685, sec. 4.1.
    """
    weights = path / WEIGHTS_FILE if path.is_dir() else path
    for suffix in PICKLE_SUFFIXES:
        refuse_pickle(weights.with_suffix(suffix))
    if not weights.is_file():
        raise CheckpointError(
            f"{where}: expected an adapter as {weights}, found none; correct the path, or leave it out"
        )
    factors = _factors(read_state(weights), f"{where}: {weights}")
    alpha = _alpha(weights.with_name(CONFIG_FILE))
    for role, model in models.items():
        parameters = dict(model.named_parameters())
        if not all(f"{layer}.weight" in parameters for layer in factors):
            continue
        for layer, (down, up) in factors.items():
            _add(parameters[f"{layer}.weight"], down, up, alpha, f"{where}: {weights}: {layer}")
        return role
    raise CheckpointError(
        f"{where}: {weights}: expected an adapter of one of the networks {', '.join(models)}, got layers "
        f"like {shown(next(iter(factors)))}, which none of them has all of"
    )


def _factors(state: Mapping[str, Tensor], where: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer -> its factors (rank, inputs) and (outputs, rank)."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if (match := _FACTOR.match(name)) is None:
            raise CheckpointError(f"{where}: expected factors lora_A and lora_B, got {shown(name)}")
        found.setdefault(match["layer"], {})[match["which"]] = value.float()
    lone = [layer for layer, pair in found.items() if pair.keys() != {"A", "B"}]
    if lone or not found:
        raise CheckpointError(f"{where}: expected lora_A and lora_B of each layer, got one of {lone[:1]}")
    return {layer: (pair["A"], pair["B"]) for layer, pair in found.items()}


def _alpha(path: Path) -> float:
    if not path.is_file():
        return RELEASED_ALPHA
    try:
        return float(load_json(path)["lora_alpha"])
    except (ConfigError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: expected the number lora_alpha, got none ({error})") from error


@torch.no_grad()
def _add(weight: Tensor, down: Tensor, up: Tensor, alpha: float, where: str) -> None:
    if down.ndim != 2 or up.ndim != 2 or (len(up), down.shape[1]) != weight.shape or len(down) != up.shape[1]:
        raise CheckpointError(
            f"{where}: expected factors of a weight {tuple(weight.shape)}, got {tuple(down.shape)} and "
            f"{tuple(up.shape)}"
        )
    weight += (alpha / len(down) * (up @ down)).to(weight.dtype)
