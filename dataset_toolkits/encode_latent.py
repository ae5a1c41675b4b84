"""Structured latents of assets: python dataset_toolkits/encode_latent.py --output-dir R.

Reads ``features/<feat_model>/<sha256>.npz``, and writes ``latents/<feat_model>_<encoder>/<sha256>.npz`` with
the posterior mean at every voxel.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from dataset_toolkits.asset_work import (
    AssetFunction,
    AssetStep,
    check_engine,
    run_assets,
)
from dataset_toolkits.encoding import (
    add_device,
    add_encoder,
    check_encoder,
    check_finite,
    encoder_name,
    load_encoder,
)
from dataset_toolkits.extract_feature import DEFAULT_MODEL
from dataset_toolkits.steps import add_selection, check_rank, run_step, select_rows
from scenegen.cli.engine_options import add_engine_arguments
from scenegen.cli.parser import CommandParser
from scenegen.datasets.arrays import read_arrays, write_arrays
from scenegen.datasets.metadata import AssetRow
from trellis_modules.models import SLatEncoder
from trellis_modules.sparse import SparseTensor

PUBLISHED = "microsoft/TRELLIS-image-large/ckpts/slat_enc_swin8_B_64l8_fp16"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    add_selection(parser)
    parser.add_argument(
        "--feat-model", default=DEFAULT_MODEL, help=f"name of the features; default: {DEFAULT_MODEL}"
    )
    add_encoder(parser, PUBLISHED)
    add_device(parser)
    add_engine_arguments(parser)
    return check_engine(parser, check_encoder(parser, check_rank(parser, parser.parse_args(arguments))))


@torch.no_grad()
def encode_features(encoder: SLatEncoder, features: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """Posterior mean (N, C) float32 of features (N, in_channels) at voxels (N, 3).

    Raises:
        ValueError: it is not finite.
    """
    device = next(encoder.parameters()).device
    coords = torch.from_numpy(np.pad(voxels.astype(np.int32), ((0, 0), (1, 0)))).to(device)
    tensor = SparseTensor(torch.from_numpy(features.astype(np.float32)).to(device), coords)
    mean = encoder.posterior(tensor, sample_posterior=False).mean.feats.float().cpu().numpy()
    return check_finite(mean)


def latent_name(options: argparse.Namespace) -> str:
    """What the folder and the column are named after."""
    return f"{options.feat_model}_{encoder_name(options)}"


def load(options: argparse.Namespace) -> AssetFunction:
    """Load the encoder, and return what encodes an asset with it.

    Raises:
        CheckpointError: see `load_encoder`.
    """
    root, features, name = options.output_dir, options.feat_model, latent_name(options)
    encoder = load_encoder(options, SLatEncoder)
    channels = {"patchtokens": encoder.config.in_channels, "indices": 3}

    def run(row: AssetRow) -> Mapping[str, Any]:
        path = root / "latents" / name / f"{row.sha256}.npz"
        if not path.is_file():
            stored = read_arrays(root / "features" / features / f"{row.sha256}.npz", channels)
            latent = encode_features(encoder, stored["patchtokens"], stored["indices"])
            write_arrays(path, feats=latent, coords=stored["indices"].astype(np.uint8))
        return {f"latent_{name}": True}

    return run


def encode(options: argparse.Namespace) -> int:
    """Encode and record."""
    features, name = options.feat_model, latent_name(options)
    column = f"latent_{name}"
    rows = select_rows(
        options,
        lambda row: row.status.get(f"feature_{features}") and not row.status.get(column),
        f"with feature_{features} and without {column}",
    )
    if not rows:
        return 0
    inputs, outputs = (f"features/{features}/{{}}.npz",), (f"latents/{name}/{{}}.npz",)
    step = AssetStep(column, partial(load, options), inputs, outputs, str(options.device))
    return run_assets(step, rows, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Encode and record; 1 when an asset failed or there is no such encoder."""
    options = parse_arguments(arguments)
    return run_step(lambda: encode(options), options=options)


if __name__ == "__main__":
    sys.exit(main())
