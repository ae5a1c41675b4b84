"""What the steps that encode assets share: the encoder that is asked for, its name, and the device."""

from __future__ import annotations

import argparse
from pathlib import Path, PurePosixPath

import numpy as np
from torch import nn

from safe_files.weights import without_weights
from scenegen.checkpoints.networks import load_network
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import default_device, device
from scenegen.models.registry import build_model
from trellis_modules.checkpoint import WEIGHTS_SUFFIX, CheckpointError, materialize, read_state, refuse_pickle
from trellis_modules.config import ConfigError, load_json


def add_device(parser: CommandParser) -> None:
    """Declare where networks run."""
    parser.add_argument("--device", type=device, default=default_device(), help="cpu, cuda or cuda:<n>")


def add_encoder(parser: CommandParser, published: str) -> None:
    """Declare which encoder is used.

    Args:
        parser: of a step.
        published: the default, a network on the hub.
    """
    parser.add_argument(
        "--enc-pretrained",
        default=published,
        help=f"encoder: a network on the hub or a local path without its ending; default: {published}",
    )
    parser.add_argument("--model-root", type=Path, default=Path("results"), help="where own trainings are")
    parser.add_argument("--enc-model", help="own training below --model-root, instead of --enc-pretrained")
    parser.add_argument("--ckpt", help="which of its checkpoints, for example step0100000")


def check_encoder(parser: CommandParser, options: argparse.Namespace) -> argparse.Namespace:
    """Refuse half of what names an own training."""
    if (options.enc_model is None) != (options.ckpt is None):
        parser.error("--enc-model and --ckpt: expected both or none")
    return options


def encoder_name(options: argparse.Namespace) -> str:
    """What folders and columns are named after."""
    if options.enc_model is not None:
        return f"{options.enc_model}_{options.ckpt}"
    return PurePosixPath(options.enc_pretrained).name


def load_encoder(options: argparse.Namespace, kind: type[nn.Module]) -> nn.Module:
    """The encoder of `add_encoder`, in eval mode.

    Raises:
        CheckpointError: it is missing, damaged, or a network of another kind.
    """
    if options.enc_model is None:
        encoder = load_network(options.enc_pretrained, options.device)
    else:
        encoder = _own_encoder(options)
    if not isinstance(encoder, kind):
        raise CheckpointError(
            f"{encoder_name(options)}: expected a network of kind {kind.__name__}, "
            f"got {type(encoder).__name__}"
        )
    return encoder


def _own_encoder(options: argparse.Namespace) -> nn.Module:
    """``models.encoder`` of a training's ``config.json``, with the weights of one of its checkpoints."""
    folder = options.model_root / options.enc_model
    weights = folder / "ckpts" / f"encoder_{options.ckpt}{WEIGHTS_SUFFIX}"
    refuse_pickle(weights.with_suffix(".pt"))
    try:
        content = load_json(folder / "config.json")
        with without_weights():
            encoder = build_model(content["models"]["encoder"], f"{folder / 'config.json'}: models.encoder")
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: expected models.encoder ({error})") from error
    return materialize(encoder, read_state(weights), str(weights), options.device)


def check_finite(latent: np.ndarray) -> np.ndarray:
    """The latent, of any shape, as it is.

    Raises:
        ValueError: a number of it is not finite.
    """
    if not np.isfinite(latent).all():
        raise ValueError("the latent is not finite; check the encoder")
    return latent
