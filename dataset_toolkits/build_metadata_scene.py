"""Cut out the annotated objects of photos and write the table of scenes.

python dataset_toolkits/build_metadata_scene.py 3D-FUTURE --output-dir R --set train --save-mask \\
    --vggt-ckpt checkpoints/VGGT-1B

For each photo: a cut-out and a mask for each kept object, the photo, its geometry feature, and a row for
each object in ``metadata_scene.csv`` (``metadata_scene_test.csv`` for the test set). Safe to run again:
photos that are in the table with all their files are skipped, and the columns of their assets are brought up
to date. With ``--world-size`` above 1 every process makes the files of its share of the photos; a last run
without it finds them there and writes the table. ``--workers`` and ``--engine ray`` share the photos out by
themselves, and the data root may be in an object store.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from dataset_toolkits.asset_work import check_engine
from dataset_toolkits.photos.engine import BOXES, PhotoWork, measured_boxes, run_photos
from dataset_toolkits.photos.failures import write_failures
from dataset_toolkits.photos.photo_maker import PhotoMaker
from dataset_toolkits.photos.rows import statistics_text
from dataset_toolkits.photos.scene_table import SceneTable
from dataset_toolkits.photos.set_paths import DATASETS, RENDERS_COND, SETS, SetPaths
from dataset_toolkits.steps import add_output_dir, check_rank, read_table, run_step
from dataset_toolkits.stored_root import deliver_tables
from scenegen.batch.engines.tasks import Task
from scenegen.cli.engine_options import add_engine_arguments
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import default_device, device, positive_int, whole_number
from scenegen.datasets.annotations import AnnotationError, Fault, read_annotations
from scenegen.datasets.furniture_ids import is_train
from scenegen.datasets.metadata import ASSETS_NAME, read_scenes
from scenegen.datasets.model_boxes import MODELS_FOLDER
from scenegen.datasets.records import shard
from scenegen.datasets.tables import MetadataError
from scenegen.stores.root_files import RootFiles
from scenegen.synthesis.furniture.split import SplitError
from trellis_modules.files import atomic_write_text
from vggt.checkpoint import VggtCheckpointError

logger = logging.getLogger("build_metadata_scene")

_MADE = "or make some with build_lookalike.py"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("dataset", choices=DATASETS, help="data set with annotated photos")
    add_output_dir(parser, may_be_stored=True)
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
    add_engine_arguments(parser)
    options = parser.parse_args(arguments)
    if options.use_render_cond and options.set != "train":
        parser.error("--use-render-cond: assets alone are for training; leave it out with --set test")
    return check_engine(parser, check_rank(parser, options))


def check_inputs(paths: SetPaths, options: argparse.Namespace) -> None:
    """Say which step is missing.

    Raises:
        MetadataError: a file or folder is not there.
        StoreError: the store cannot be read.
    """
    needed = {
        paths.root / ASSETS_NAME: "run build_metadata.py first",
        paths.annotations: f"place the annotations of 3D-FUTURE there, {_MADE}",
        paths.photo("").parent: f"place the photos of 3D-FUTURE there, {_MADE}",
        paths.root / MODELS_FOLDER: "run download.py first",
    }
    if options.use_render_cond:
        needed[paths.root / RENDERS_COND] = "run render_cond.py first"
    files = RootFiles(paths.root, options.root_url)
    for path, remedy in needed.items():
        name = path.relative_to(paths.root).as_posix()
        if not files.has_any(name):
            raise MetadataError(f"{options.root_url or paths.root}/{name}: no such file or folder; {remedy}")


def make_table(paths: SetPaths, options: argparse.Namespace) -> SceneTable:
    """Make every photo of this process, and the table unless there are several.

    Raises:
        MetadataError, AnnotationError, VggtCheckpointError, SplitError: the input cannot be used.
        EngineError, StoreError: there is nowhere to do it, or the store cannot be used.
        OSError: the disk refuses.
    """
    check_inputs(paths, options)
    assets = read_table(paths.root, strict=True)  # a row that is lost here would be lost there
    faults: list[Fault] = []
    photos = read_annotations(paths.annotations, faults.append)
    own = shard(photos, options.rank, options.world_size)
    name = f"{paths.failed_kind}_{options.rank}"
    boxes = measured_boxes((model for photo in own for model in photo.models()), options, name)
    alone = [asset for asset in assets if asset.cond_rendered and is_train(asset)]
    alone = alone if options.use_render_cond else []
    order = [*(photo.file_name for photo in photos), *(asset.sha256 for asset in alone)]
    table = SceneTable(paths, assets, boxes, order, options.flush_every)
    for fault in faults:
        table.fail(fault.item, fault.reason)
    alone = shard(alone, options.rank, options.world_size)
    load = partial(PhotoMaker.load, paths.name, options.save_mask, options.vggt_ckpt, options.device)
    work = PhotoWork(paths.root, options.root_url, load, str(options.device))
    tasks = chain(map(table.task, own), (Task(asset.sha256, asset) for asset in alone))
    has_table = options.world_size == 1
    for record in run_photos(work, tasks, options, name, "photo", len(own) + len(alone)):
        table.add(record)
        if has_table and table.due():
            table.write()
            deliver_tables(paths.root)
        if options.max_failures is not None and len(table.failed) > options.max_failures:
            logger.error("more than %d failed (--max-failures); stopped", options.max_failures)
            break
    if has_table:
        table.write()
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
    files = (SetPaths(Path(), options.set).annotations.as_posix(), BOXES)
    errors = (AnnotationError, SplitError, VggtCheckpointError)
    return run_step(lambda: build(options), *errors, options=options, files=files)


if __name__ == "__main__":
    sys.exit(main())
