"""Pack scenes, or structure latents alone, into files that training reads quickly.

python dataset_toolkits/pack_scenes.py --output-dir R --set train

From ``metadata_scene.csv`` it writes ``shards/scenes_train-00000.safetensors`` and so on; with
``--kind latents``, from ``metadata.csv``, ``shards/latents_train-00000.safetensors`` and so on.
`scenegen.datasets.scene_samples` reads them. Rows whose files are missing or damaged are named and left out.
Safe to run again: a shard is made again when a row or a file of it changed. With ``--world-size`` several
processes share the shards.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from dataset_toolkits.photos.failures import write_failures
from dataset_toolkits.photos.packing import Packer, PackSettings
from dataset_toolkits.photos.rows import grouped
from dataset_toolkits.photos.set_paths import SETS, SetPaths
from dataset_toolkits.steps import add_output_dir, check_rank, run_step
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.conditioning.image_preparation import IMAGE_SIZE
from scenegen.datasets.furniture_ids import is_train
from scenegen.datasets.metadata import ASSETS_NAME, read_assets, read_scenes
from scenegen.datasets.shards import KINDS, LATENTS, SCENES, shard_name, shard_paths
from scenegen.datasets.tables import MetadataError
from scenegen.synthesis.furniture.split import SplitError

logger = logging.getLogger("pack_scenes")

LATENT_MODEL = "ss_enc_conv3d_16l8_fp16"
_SAMPLES = {SCENES: 32, LATENTS: 1024}  # of a shard: some 400 MB of scenes, 130 MB of latents


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    add_output_dir(parser)
    parser.add_argument("--set", choices=SETS, default="train", help="set of photos (%(default)s)")
    parser.add_argument("--kind", choices=KINDS, default=SCENES, help="what is packed (%(default)s)")
    parser.add_argument("--latent-model", default=LATENT_MODEL, help="folder in ss_latents (%(default)s)")
    parser.add_argument("--shards", type=Path, help="folder for the shards; default: <output_dir>/shards")
    parser.add_argument("--samples-per-shard", type=positive_int, help=f"default: {_SAMPLES}")
    parser.add_argument("--image-size", type=positive_int, default=IMAGE_SIZE, help="pixels per edge")
    parser.add_argument("--rank", type=whole_number, default=0, help="number of this process")
    parser.add_argument("--world-size", type=positive_int, default=1, help="number of processes")
    options = parser.parse_args(arguments)
    if options.kind == LATENTS and options.set != "train":
        parser.error("--kind latents: assets belong to no set of photos; leave --set out")
    return check_rank(parser, options)


def samples_of(options: argparse.Namespace, failed: dict[str, str]) -> list[Any]:
    """What is packed: the rows of each scene, or assets.

    Args:
        failed: takes the lines of the table that cannot be used.

    Raises:
        MetadataError: the table is missing.
    """
    column = f"ss_latent_{options.latent_model}"

    def leave_out(error: MetadataError) -> None:
        logger.warning("%s", error)
        failed[f"table, {len(failed) + 1}"] = str(error)

    if options.kind == LATENTS:
        assets = read_assets(options.output_dir / ASSETS_NAME, leave_out)
        encoded = [asset for asset in assets if asset.status.get(column)]
        ours = [asset for asset in encoded if is_train(asset)]
        print(f"{len(encoded) - len(ours)} of {len(encoded)} assets left out: not of the train split")
        return ours
    rows = read_scenes(SetPaths(options.output_dir, options.set).table, leave_out)
    return list(grouped(row for row in rows if row.status.get(column)).values())


def pack(options: argparse.Namespace) -> int:
    """Write the shards of this process, and remove those beyond the last one; the exit status.

    Raises:
        MetadataError, SplitError: the table cannot be used.
        OSError: the disk refuses.
    """
    failed: dict[str, str] = {}
    samples, size = samples_of(options, failed), options.samples_per_shard or _SAMPLES[options.kind]
    if not samples:
        raise MetadataError(
            f"{options.output_dir}: no row has the column ss_latent_{options.latent_model} set; run "
            "encode_ss_latent.py, build_metadata.py and build_metadata_scene.py first"
        )
    settings = PackSettings(options.output_dir, options.set, options.latent_model, options.image_size, size)
    packer = Packer(settings, options.shards or options.output_dir / "shards", failed)
    numbers = range(-(-len(samples) // size))
    make = packer.scenes if options.kind == SCENES else packer.latents
    with logging_redirect_tqdm():
        own = numbers[options.rank :: options.world_size]
        for number in tqdm(own, desc="shards", unit="shard", disable=None):
            make(samples[number * size : (number + 1) * size], number)
    names = {shard_name(options.kind, options.set, number) for number in numbers}
    for path in shard_paths(packer.folder, options.kind, options.set):
        if path.name not in names:
            path.unlink()
    print(f"{packer.num_samples} samples in {packer.folder}")
    table = ASSETS_NAME if options.kind == LATENTS else SetPaths(options.output_dir, options.set).table.name
    kind, rank = f"{options.kind}_{options.set}_shards", str(options.rank)
    return write_failures(options.output_dir, kind, rank, options.output_dir / table, packer.failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack and count; 1 when something failed or the input cannot be used."""
    options = parse_arguments(arguments)
    return run_step(lambda: pack(options), SplitError)


if __name__ == "__main__":
    sys.exit(main())
