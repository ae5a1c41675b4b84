"""Networks that a loss uses and that are not trained."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from scenegen.checkpoints.networks import load_network
from scenegen.models.registry import build_model
from trellis_modules.checkpoint import CheckpointError, find_weights, load_state, read_state
from trellis_modules.config import ConfigError, load_json


def frozen_network(reference: str) -> nn.Module:
    """A network in eval mode and float32, without gradients.

    Args:
        reference: as `load_network` takes it.

    Raises:
        CheckpointError: there is no such network, or it is damaged.
    """
    return load_network(reference).requires_grad_(False)


def frozen_decoder_of_run(folder: Path, state: str) -> nn.Module:
    """The network ``decoder`` of a training run, in eval mode, without gradients.

    Args:
        folder: of the run, with its ``config.json``.
        state: which of its saved ones, for example ``step0050000`` or ``ema0.9999_step0050000``.

    Raises:
        CheckpointError: the run has no such decoder, or it is damaged.
    """
    config_path = folder / "config.json"
    try:
        config = load_json(config_path)
        models = config.get("models") if isinstance(config, dict) else None
        if not isinstance(models, dict) or "decoder" not in models:
            raise ConfigError(f"{config_path}: expected models.decoder, found none; is it a run of a VAE?")
        decoder = build_model(models["decoder"], f"{config_path}: models.decoder")
    except ConfigError as error:
        raise CheckpointError(str(error)) from error
    weights = find_weights(folder / "ckpts" / f"decoder_{state}")
    load_state(decoder, read_state(weights), str(weights))
    return decoder.eval().requires_grad_(False)
