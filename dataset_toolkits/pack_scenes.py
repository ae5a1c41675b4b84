"""Pack scenes, or structure latents alone, into files that training reads quickly.

python dataset_toolkits/pack_scenes.py --output-dir R --set train

From ``metadata_scene.csv`` it writes ``shards/scenes_train-00000.safetensors`` and so on; with
``--kind latents``, from ``metadata.csv``, ``shards/latents_train-00000.safetensors`` and so on.
`scenegen.datasets.scene_samples` reads them. Rows whose files are missing or damaged are named and left out.
Safe to run again: a shard is made again when a row or a file of it changed. With ``--world-size`` several
processes share the shards; ``--workers`` and ``--engine ray`` do so by themselves, and the data root may be
in an object store.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from dataset_toolkits.asset_work import check_engine
from dataset_toolkits.photos.engine import PhotoWork, run_photos
from dataset_toolkits.photos.failures import write_failures
from dataset_toolkits.photos.packing import SHARDS, Packed, Packer, PackSettings, ShardJob, source_path
from dataset_toolkits.photos.rows import grouped
from dataset_toolkits.photos.set_paths import SETS, SetPaths
from dataset_toolkits.steps import add_output_dir, check_rank, run_step
from scenegen.batch.engines.tasks import Task
from scenegen.cli.engine_options import add_engine_arguments
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.conditioning.image_preparation import IMAGE_SIZE
from scenegen.datasets.furniture_ids import is_train
from scenegen.datasets.metadata import ASSETS_NAME, read_assets, read_scenes
from scenegen.datasets.shards import KINDS, LATENTS, SCENES, shard_name, shard_paths, shard_pattern
from scenegen.datasets.tables import MetadataError
from scenegen.stores.root_files import RootFiles
from scenegen.stores.urls import is_url
from scenegen.synthesis.furniture.split import SplitError

logger = logging.getLogger("pack_scenes")

LATENT_MODEL = "ss_enc_conv3d_16l8_fp16"
_SAMPLES = {SCENES: 32, LATENTS: 1024}  # of a shard: some 400 MB of scenes, 130 MB of latents


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    add_output_dir(parser, may_be_stored=True)
    parser.add_argument("--set", choices=SETS, default="train", help="set of photos (%(default)s)")
    parser.add_argument("--kind", choices=KINDS, default=SCENES, help="what is packed (%(default)s)")
    parser.add_argument("--latent-model", default=LATENT_MODEL, help="folder in ss_latents (%(default)s)")
    parser.add_argument("--shards", type=Path, help="folder for the shards; default: <output_dir>/shards")
    parser.add_argument("--samples-per-shard", type=positive_int, help=f"default: {_SAMPLES}")
    parser.add_argument("--image-size", type=positive_int, default=IMAGE_SIZE, help="pixels per edge")
    parser.add_argument("--rank", type=whole_number, default=0, help="number of this process")
    parser.add_argument("--world-size", type=positive_int, default=1, help="number of processes")
    add_engine_arguments(parser)
    options = parser.parse_args(arguments)
    if options.kind == LATENTS and options.set != "train":
        parser.error("--kind latents: assets belong to no set of photos; leave --set out")
    if options.shards is not None and is_url(options.output_dir):
        parser.error("--shards: those of a root in a store are below it; leave it out")
    return check_engine(parser, check_rank(parser, options))


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
    settings = PackSettings(options.set, options.latent_model, options.image_size, options.shards or SHARDS)
    numbers = range(-(-len(samples) // size))
    own = numbers[options.rank :: options.world_size]
    tasks = (Task(_name(options, number), _job(options, samples, size, number)) for number in own)
    kind = f"{options.kind}_{options.set}_shards"
    work = PhotoWork(options.output_dir, options.root_url, partial(partial, Packer(settings)))
    found: dict[str, Packed] = {}
    for record in run_photos(work, tasks, options, f"{kind}_{options.rank}", "shard", len(own)):
        found[record.id] = record.value or Packed(0, {record.id: record.error or "not packed"})
        for item, reason in found[record.id].failed.items():
            logger.warning("%s: %s", item, reason)
        if not found[record.id].num_samples:
            logger.warning("%s: none of its samples can be packed; not written", record.id)
    folder = options.shards or options.output_dir / SHARDS
    remove_others(options, folder, {_name(options, number) for number in numbers})
    packed = [found[name] for name in (_name(options, number) for number in own) if name in found]
    for one in packed:
        failed |= one.failed
    where = folder if options.root_url is None else f"{options.root_url}/{SHARDS}"
    print(f"{sum(one.num_samples for one in packed)} samples in {where}")
    table = ASSETS_NAME if options.kind == LATENTS else SetPaths(options.output_dir, options.set).table.name
    return write_failures(options.output_dir, kind, str(options.rank), options.output_dir / table, failed)


def _name(options: argparse.Namespace, number: int) -> str:
    return shard_name(options.kind, options.set, number)


def _job(options: argparse.Namespace, samples: Sequence[Any], size: int, number: int) -> ShardJob:
    return ShardJob(options.kind, number, samples[number * size : (number + 1) * size])


def remove_others(options: argparse.Namespace, folder: Path, names: set[str]) -> None:
    """Remove shards of the kind and set that are beyond the last one.

    Raises:
        StoreError, OSError: the store or the disk refuses.
    """
    if options.root_url is None:
        for path in shard_paths(folder, options.kind, options.set):
            if path.name not in names:
                path.unlink()
        return
    files = RootFiles(options.output_dir, options.root_url)
    for file in files.states(SHARDS):
        name = PurePosixPath(file).name
        if fnmatch(name, shard_pattern(options.kind, options.set)) and name not in names:
            files.remove(file)
            files.remove(source_path(Path(file)).as_posix())


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack and count; 1 when something failed or the input cannot be used."""
    options = parse_arguments(arguments)
    return run_step(lambda: pack(options), SplitError, options=options)


if __name__ == "__main__":
    sys.exit(main())
