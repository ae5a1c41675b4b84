"""Features at the voxels of assets: python dataset_toolkits/extract_feature.py --output-dir R.

Writes ``features/<model>/<sha256>.npz``: patch tokens of DINOv2, averaged over the pictures of ``renders/``;
or, with ``--model surface_fields``, what the encoder of the small model reads, which needs no pictures.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataset_toolkits.asset_work import (
    MODEL_FOLDER,
    AssetFunction,
    AssetStep,
    check_engine,
    run_assets,
)
from dataset_toolkits.encoding import add_device
from dataset_toolkits.image_features import IMAGE_SIZE, voxel_image_features
from dataset_toolkits.steps import add_selection, check_rank, run_step, select_rows
from dataset_toolkits.surface_features import SURFACE_FIELDS, surface_features
from scenegen.checkpoints.networks import load_network
from scenegen.cli.engine_options import add_engine_arguments
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.datasets.arrays import write_arrays
from scenegen.datasets.asset_pictures import read_transforms
from scenegen.datasets.metadata import AssetRow
from scenegen.datasets.voxel_files import RESOLUTION, read_voxels
from trellis_modules.checkpoint import CheckpointError
from vggt.layers.vision_transformer import VisionTransformer

Extract = Callable[[AssetRow, np.ndarray], Tensor]
DEFAULT_MODEL = "dinov2_vitl14_reg"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    add_selection(parser)
    parser.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help=f"{DEFAULT_MODEL} (default), another image encoder by its path, or {SURFACE_FIELDS}",
    )
    parser.add_argument("--batch-size", type=positive_int, default=16, help="pictures at a time; default: 16")
    parser.add_argument(
        "--image-size",
        type=positive_int,
        default=IMAGE_SIZE,
        help=f"pixels per side that the encoder sees; default: {IMAGE_SIZE}",
    )
    add_device(parser)
    add_engine_arguments(parser)
    return check_engine(parser, check_rank(parser, parser.parse_args(arguments)))


def load(options: argparse.Namespace) -> AssetFunction:
    """Load the image encoder where there is one, and return what extracts the features of an asset.

    Raises:
        CheckpointError: there is no such encoder.
    """
    root, name = options.output_dir, PurePosixPath(options.model).name
    features_of = _surface(options) if name == SURFACE_FIELDS else _pictures(options)

    def run(row: AssetRow) -> Mapping[str, Any]:
        path = root / "features" / name / f"{row.sha256}.npz"
        if not path.is_file():
            voxels = read_voxels(root / "voxels" / f"{row.sha256}.ply")
            tokens = features_of(row, voxels).numpy().astype(np.float16)
            if not np.isfinite(tokens).all():
                raise ValueError("features beyond the range of float16; check the encoder")
            write_arrays(path, indices=voxels.astype(np.uint8), patchtokens=tokens)
        return {f"feature_{name}": True}

    return run


def extract(options: argparse.Namespace) -> int:
    """Extract and record."""
    name = PurePosixPath(options.model).name
    column = f"feature_{name}"
    rows = select_rows(
        options,
        lambda row: row.voxelized and row.rendered and not row.status.get(column),
        f"voxelized and without {column}",
    )
    if not rows:
        return 0
    source = MODEL_FOLDER if name == SURFACE_FIELDS else "renders/{}"
    inputs, outputs = (source, "voxels/{}.ply"), (f"features/{name}/{{}}.npz",)
    step = AssetStep(column, partial(load, options), inputs, outputs, str(options.device))
    return run_assets(step, rows, options)


def _pictures(options: argparse.Namespace) -> Extract:
    """Features of an image encoder.

    Raises:
        CheckpointError: it is missing, of another kind, or its patches do not fit the size.
    """
    encoder = load_network(options.model, options.device)
    if not isinstance(encoder, VisionTransformer):
        raise CheckpointError(f"{options.model}: expected an image encoder, got {type(encoder).__name__}")
    if options.image_size % (patch := encoder.patch_embed.patch_size):
        raise CheckpointError(f"--image-size: expected a multiple of {patch}, got {options.image_size}")

    readers = ThreadPoolExecutor(os.cpu_count())  # for the life of the worker

    def features_of(row: AssetRow, voxels: np.ndarray) -> Tensor:
        pictures = read_transforms(options.output_dir / "renders" / row.sha256)
        return voxel_image_features(
            encoder, pictures, voxels, RESOLUTION, options.batch_size, readers, options.image_size
        )

    return features_of


def _surface(options: argparse.Namespace) -> Extract:
    """Fields of the surface around the voxels."""
    device = torch.device("cpu") if options.device.type == "mps" else options.device  # float64 is needed

    def features_of(row: AssetRow, voxels: np.ndarray) -> Tensor:
        if not row.local_path:
            raise ValueError("no local_path; run download, then build_metadata")
        return surface_features(options.output_dir / row.local_path, row.sha256, voxels, device)

    return features_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Extract and record; 1 when an asset failed or there is no such encoder."""
    options = parse_arguments(arguments)
    return run_step(lambda: extract(options), options=options)


if __name__ == "__main__":
    sys.exit(main())
