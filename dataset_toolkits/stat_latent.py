"""Mean and deviation of structured latents: python dataset_toolkits/stat_latent.py --output-dir R.

Writes ``latents/<model>/stats.json``. Every asset counts the same, however many voxels it has.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataset_toolkits.steps import add_output_dir, is_beautiful, read_table, run_step
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.datasets.arrays import read_arrays
from scenegen.datasets.tables import MetadataError
from trellis_modules.files import atomic_write_text

DEFAULT_MODEL = "dinov2_vitl14_reg_slat_enc_swin8_B_64l8_fp16"
logger = logging.getLogger(__name__)

_LARGEST = 1e18  # of a latent's numbers, whose squares are summed


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    add_output_dir(parser)
    parser.add_argument(
        "--filter-low-aesthetic-score", type=float, metavar="SCORE", help="leaves out the others"
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"folder of latents; default: {DEFAULT_MODEL}")
    parser.add_argument(
        "--num-samples", type=positive_int, default=50_000, help="assets, drawn at random; default: 50000"
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="of the draw")
    return parser.parse_args(arguments)


def moments(paths: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, int]:
    """Mean and deviation (C,) over the files of latents, and how many of these could not be read.

    Raises:
        MetadataError: none could be read.
    """
    means, squares, failed, channels = [], [], 0, None
    for path in tqdm(paths, desc="latents", unit="asset", disable=None):
        try:
            feats = read_arrays(path, {"feats": channels})["feats"].astype(np.float64)
            if np.abs(feats).max() > _LARGEST:
                raise ValueError(
                    f"{path}: feats: expected numbers up to {_LARGEST:g}, got larger ones; make it again"
                )
        except ValueError as error:
            logger.error("%s", error)
            failed += 1
            continue
        channels = feats.shape[1]
        means.append(feats.mean(axis=0))
        squares.append((feats**2).mean(axis=0))
    if not means:
        raise MetadataError(
            f"none of {len(paths)} latents could be read; run encode_latent, then build_metadata"
        )
    mean = np.mean(means, axis=0)
    return mean, np.sqrt(np.maximum(np.mean(squares, axis=0) - mean**2, 0)), failed


def count(options: argparse.Namespace) -> int:
    """Draw, read and write."""
    column, folder = f"latent_{options.model}", options.output_dir / "latents" / options.model
    least = options.filter_low_aesthetic_score
    rows = [
        row for row in read_table(options.output_dir) if row.status.get(column) and is_beautiful(row, least)
    ]
    rng = np.random.default_rng(options.seed)
    drawn = rng.permutation(len(rows))[: options.num_samples]
    mean, deviation, failed = moments([folder / f"{rows[index].sha256}.npz" for index in sorted(drawn)])
    path = folder / "stats.json"
    atomic_write_text(path, json.dumps({"mean": mean.tolist(), "std": deviation.tolist()}, indent=4))
    print(
        f"{path}: mean and deviation over {len(drawn) - failed} assets"
        + (f", {failed} failed" if failed else "")
    )
    return 1 if failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the statistics; 1 when latents could not be read."""
    options = parse_arguments(arguments)
    return run_step(lambda: count(options))


if __name__ == "__main__":
    sys.exit(main())
