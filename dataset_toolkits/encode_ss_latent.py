"""Latents of the structures of assets: python dataset_toolkits/encode_ss_latent.py --output-dir R.

Reads ``voxels/<sha256>.ply``, and writes ``ss_latents/<encoder>/<sha256>.npz`` with the posterior mean.
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
from dataset_toolkits.steps import add_selection, check_rank, run_step, select_rows
from scenegen.cli.engine_options import add_engine_arguments
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.datasets.arrays import write_arrays
from scenegen.datasets.metadata import AssetRow
from scenegen.datasets.poses import turned_latents, turned_voxels
from scenegen.datasets.scene_set import QUARTER_TURNS
from scenegen.datasets.voxel_files import RESOLUTION, read_voxels
from trellis_modules.models import SparseStructureEncoder

PUBLISHED = "microsoft/TRELLIS-image-large/ckpts/ss_enc_conv3d_16l8_fp16"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    add_selection(parser)
    add_encoder(parser, PUBLISHED)
    parser.add_argument(
        "--resolution", type=positive_int, default=RESOLUTION, help=f"of the voxels; default: {RESOLUTION}"
    )
    parser.add_argument(
        "--yaw",
        type=int,
        choices=(0, *QUARTER_TURNS),
        default=0,
        help="degrees by which voxels are turned about their up axis before; the folder is <encoder>_yaw<N>",
    )
    add_device(parser)
    add_engine_arguments(parser)
    return check_engine(parser, check_encoder(parser, check_rank(parser, parser.parse_args(arguments))))


@torch.no_grad()
def encode_structure(encoder: SparseStructureEncoder, voxels: np.ndarray, resolution: int) -> np.ndarray:
    """Posterior mean (C, R, R, R) float32 of occupied voxels (N, 3).

    Raises:
        ValueError: it is not finite, or the resolution does not fit the encoder.
    """
    device = next(encoder.parameters()).device
    occupancy = torch.zeros(1, 1, *(resolution,) * 3, device=device)
    x, y, z = torch.from_numpy(voxels).to(device).unbind(1)
    occupancy[0, 0, x, y, z] = 1.0
    mean = encoder.posterior(occupancy).mean[0].float().cpu().numpy()
    return check_finite(mean)


def load(options: argparse.Namespace) -> AssetFunction:
    """Load the encoder, and return what encodes an asset with it.

    Raises:
        CheckpointError: see `load_encoder`.
    """
    root, name = options.output_dir, turned_latents(encoder_name(options), options.yaw)
    encoder = load_encoder(options, SparseStructureEncoder)

    def run(row: AssetRow) -> Mapping[str, Any]:
        path = root / "ss_latents" / name / f"{row.sha256}.npz"
        if not path.is_file():
            voxels = read_voxels(root / "voxels" / f"{row.sha256}.ply", options.resolution)
            voxels = turned_voxels(voxels, options.yaw // 90, options.resolution)
            write_arrays(path, mean=encode_structure(encoder, voxels, options.resolution))
        return {f"ss_latent_{name}": True}

    return run


def encode(options: argparse.Namespace) -> int:
    """Encode and record."""
    name = turned_latents(encoder_name(options), options.yaw)
    column = f"ss_latent_{name}"
    rows = select_rows(
        options,
        lambda row: row.voxelized and not row.status.get(column),
        f"voxelized and without {column}",
    )
    if not rows:
        return 0
    folder, device = f"ss_latents/{name}", str(options.device)
    step = AssetStep(column, partial(load, options), ("voxels/{}.ply",), (folder + "/{}.npz",), device)
    return run_assets(step, rows, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Encode and record; 1 when an asset failed or there is no such encoder."""
    options = parse_arguments(arguments)
    return run_step(lambda: encode(options), options=options)


if __name__ == "__main__":
    sys.exit(main())
