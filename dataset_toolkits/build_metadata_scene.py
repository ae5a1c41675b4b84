"""Cut out the annotated objects of photos and write the table of scenes.

python dataset_toolkits/build_metadata_scene.py 3D-FUTURE --output-dir R --set train --save-mask \\
    --vggt-ckpt checkpoints/VGGT-1B

For each photo: a cut-out and a mask for each kept object, the photo, its geometry feature, and a row for
each object in ``metadata_scene.csv`` (``metadata_scene_test.csv`` for the test set). Safe to run again:
photos that are in the table with all their files are skipped, and the columns of their assets are brought up
to date. With ``--world-size`` above 1 every process makes the files of its share of the photos; a last run
without it finds them there and writes the table.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from dataset_toolkits.photos.failures import write_failures
from dataset_toolkits.photos.geometry_features import GeometryFeatures
from dataset_toolkits.photos.rows import statistics_text
from dataset_toolkits.photos.scene_table import SceneTable
from dataset_toolkits.photos.set_paths import DATASETS, RENDERS_COND, SETS, SetPaths
from dataset_toolkits.steps import add_output_dir, check_rank, read_table, run_step
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import default_device, device, positive_int, whole_number
from scenegen.datasets.annotations import AnnotationError, Fault, read_annotations
from scenegen.datasets.furniture_ids import is_train
from scenegen.datasets.metadata import ASSETS_NAME, read_scenes
from scenegen.datasets.model_boxes import MODELS_FOLDER
from scenegen.datasets.records import shard
from scenegen.datasets.tables import MetadataError
from scenegen.synthesis.furniture.split import SplitError
from trellis_modules.files import atomic_write_text
from vggt.checkpoint import VggtCheckpointError

logger = logging.getLogger("build_metadata_scene")

_MADE = "or make some with build_lookalike.py"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("dataset", choices=DATASETS, help="data set with annotated photos")
    add_output_dir(parser)
    parser.add_argument("--set", choices=SETS, default="train", help="set of photos (%(default)s)")
    parser.add_argument(
        "--vggt-ckpt", type=Path, default=Path("checkpoints/VGGT-1B"), help="geometry encoder (%(default)s)"
    )
    parser.add_argument("--statistic-only", action="store_true", help="only count what the table has")
    parser.add_argument(
        "--save-mask", action="store_true", help="write N_mask.png, which training and evaluation need"
    )
    parser.add_argument(
        "--use-render-cond", action="store_true", help="train: also a row for each asset alone, in a render"
    )
    parser.add_argument("--device", type=device, default=default_device(), help="for the geometry encoder")
    parser.add_argument("--rank", type=whole_number, default=0, help="number of this process")
    parser.add_argument("--world-size", type=positive_int, default=1, help="number of processes")
    parser.add_argument("--flush-every", type=positive_int, default=100, help="photos between two writes")
    parser.add_argument(
        "--max-failures", type=whole_number, metavar="N", help="stop when more photos or annotations failed"
    )
    options = parser.parse_args(arguments)
    if options.use_render_cond and options.set != "train":
        parser.error("--use-render-cond: assets alone are for training; leave it out with --set test")
    return check_rank(parser, options)


def check_inputs(paths: SetPaths, options: argparse.Namespace) -> None:
    """Say which step is missing.

    Raises:
        MetadataError: a file or folder is not there.
    """
    needed = {
        paths.root / ASSETS_NAME: "run build_metadata.py first",
        paths.annotations: f"place the annotations of 3D-FUTURE there, {_MADE}",
        paths.photo("").parent: f"place the photos of 3D-FUTURE there, {_MADE}",
        paths.root / MODELS_FOLDER: "run download.py first",
    }
    if options.use_render_cond:
        needed[paths.root / RENDERS_COND] = "run render_cond.py first"
    for path, remedy in needed.items():
        if not path.exists():
            raise MetadataError(f"{path}: no such file or folder; {remedy}")


def make_table(paths: SetPaths, options: argparse.Namespace) -> SceneTable:
    """Make every photo of this process, and the table unless there are several.

    Raises:
        MetadataError, AnnotationError, VggtCheckpointError, SplitError: the input cannot be used.
        OSError: the disk refuses.
    """
    check_inputs(paths, options)
    assets = read_table(paths.root, strict=True)  # a row that is lost here would be lost there
    faults: list[Fault] = []
    photos = read_annotations(paths.annotations, faults.append)
    features = GeometryFeatures(options.vggt_ckpt, options.device)
    table = SceneTable(paths, assets, options.save_mask, features, options.flush_every)
    for fault in faults:
        table.fail(fault.item, fault.reason)
    alone = [asset for asset in assets if asset.cond_rendered and is_train(asset)]
    alone = alone if options.use_render_cond else []
    order = [*(photo.file_name for photo in photos), *(asset.sha256 for asset in alone)]
    has_table = options.world_size == 1
    with logging_redirect_tqdm():
        own = shard(photos, options.rank, options.world_size)
        for photo in tqdm(own, desc="photos", unit="photo", disable=None):
            table.add_photo(photo)
            if has_table and table.due():
                table.write(order)
            if options.max_failures is not None and len(table.failed) > options.max_failures:
                logger.error("more than %d failed (--max-failures); stopped", options.max_failures)
                break
        own = shard(alone, options.rank, options.world_size)
        for asset in tqdm(own, desc="assets", unit="asset", disable=None if alone else True):
            table.add_asset(asset)
            if has_table and table.due():
                table.write(order)
    if has_table:
        table.write(order)
    return table


def report(table: SceneTable, options: argparse.Namespace) -> int:
    """Count what was left out, write and count what failed; the exit status."""
    for reason, count in sorted(table.left_out.items()):
        print(f"{count} annotations left out: {reason}")
    paths = table.paths
    return write_failures(paths.root, paths.failed_kind, str(options.rank), paths.annotations, table.failed)


def build(options: argparse.Namespace) -> int:
    """Make pictures and table, or count; the exit status. Errors as for `make_table`."""
    paths = SetPaths(options.output_dir, options.set)
    if options.statistic_only:
        atomic_write_text(paths.statistics, statistics_text(read_scenes(paths.table)))
        status = 0
    else:
        status = report(make_table(paths, options), options)
    if options.world_size == 1:
        print(paths.statistics.read_text(encoding="utf-8"), end="")
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Make pictures and table, or count; 1 when something failed or the input cannot be used."""
    options = parse_arguments(arguments)
    return run_step(lambda: build(options), AnnotationError, SplitError, VggtCheckpointError)


if __name__ == "__main__":
    sys.exit(main())
