"""Tokens of the pictures of scenes or assets: python dataset_toolkits/encode_cond.py --output-dir R.

Reads ``metadata_scene[_test].csv``, and writes ``cond_tokens/<model>/<scene>.safetensors`` with what a frozen
image encoder makes of every cut-out, mask and photo; with ``--kind assets``, from ``metadata.csv``,
``cond_tokens/<model>/assets/<sha256>.safetensors`` with the pictures of ``renders_cond/``. A training run
whose data set has ``"cond_tokens": "<model>"`` reads these in place of the pictures. Files that are there
stay as they are.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from dataset_toolkits.asset_work import check_engine
from dataset_toolkits.encoding import add_device
from dataset_toolkits.extract_feature import DEFAULT_MODEL
from dataset_toolkits.image_features import IMAGE_SIZE
from dataset_toolkits.photos.failures import write_failures
from dataset_toolkits.photos.rows import grouped
from dataset_toolkits.photos.set_paths import SETS, SetPaths
from dataset_toolkits.steps import add_output_dir, check_rank, run_step
from scenegen.batch.engines.tasks import Task, TaskFunction, TaskResult
from scenegen.checkpoints.networks import load_network
from scenegen.cli.engine_options import add_engine_arguments, run_tasks
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.conditioning.scene_conditioner import SceneConditioner
from scenegen.datasets.asset_samples import cond_views, read_cond_view
from scenegen.datasets.cond_tokens import SCENE_KEY, object_key, tokens_path, view_tokens_path, write_tokens
from scenegen.datasets.metadata import ASSETS_NAME, SceneRow, read_assets, read_scenes
from scenegen.datasets.records import shard
from scenegen.datasets.sample_files import prepare_cutout, read_mask, read_photo, read_picture
from scenegen.datasets.tables import MetadataError
from trellis_modules.checkpoint import CheckpointError
from vggt.layers.vision_transformer import VisionTransformer

logger = logging.getLogger("encode_cond")

SCENES, ASSETS = KINDS = ("scenes", "assets")


@dataclass(frozen=True)
class PicturesToEncode:
    """The pictures of a scene or an asset, and the file for their tokens.

    Attributes:
        name: of the scene or asset, for the list of failures.
        path: the file.
        read: gives the pictures (3, S, S) by their names in it; raises SampleError.
    """

    name: str
    path: Path
    read: Callable[[], Mapping[str, Tensor]]


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    add_output_dir(parser)
    parser.add_argument("--kind", choices=KINDS, default=SCENES, help="whose pictures (%(default)s)")
    parser.add_argument("--set", choices=SETS, default="train", help="set of photos (%(default)s)")
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help=f"image encoder; default: {DEFAULT_MODEL}, or another's path"
    )
    parser.add_argument(
        "--image-size",
        type=positive_int,
        default=IMAGE_SIZE,
        help=f"pixels per side that the encoder sees; default: {IMAGE_SIZE}",
    )
    parser.add_argument("--batch-size", type=positive_int, default=16, help="pictures at a time; default: 16")
    parser.add_argument("--rank", type=whole_number, default=0, help="number of this process")
    parser.add_argument("--world-size", type=positive_int, default=1, help="processes that share the scenes")
    add_device(parser)
    add_engine_arguments(parser)
    options = parser.parse_args(arguments)
    if options.kind == ASSETS and options.set != "train":
        parser.error("--kind assets: assets belong to no set of photos; leave --set out")
    return check_engine(parser, check_rank(parser, options))


def scene_pictures(root: Path, rows: Sequence[SceneRow], size: int) -> dict[str, Tensor]:
    """All pictures of a scene as training sees them, by their names in its file.

    Raises:
        SampleError: a picture is missing or damaged.
    """
    pictures = {SCENE_KEY: read_photo(root / rows[0].scene_image_path, size)}
    for row in rows:
        path = root / row.masked_image_path
        cutout = read_picture(path)
        pictures[object_key(row, "cond")] = prepare_cutout(cutout, size, path)
        pictures[object_key(row, "mask_cond")] = read_mask(path, cutout, size).expand(3, -1, -1)
    return pictures


def asset_pictures(root: Path, sha256: str, size: int) -> dict[str, Tensor]:
    """All pictures of an asset alone as training sees them, by their file names.

    Raises:
        SampleError: a picture is missing or damaged.
    """
    return {path.name: read_cond_view(path, size) for path in cond_views(root, sha256)}


def jobs(options: argparse.Namespace, table: Path) -> list[PicturesToEncode]:
    """What there is to encode, for all processes.

    Raises:
        MetadataError: the table is missing, or has a line that cannot be used, or nothing to encode.
    """
    root, size, name = options.output_dir, options.image_size, PurePosixPath(options.model).name
    if options.kind == SCENES:
        found = [
            PicturesToEncode(
                scene_id, tokens_path(root, name, scene_id), partial(scene_pictures, root, rows, size)
            )
            for scene_id, rows in grouped(read_scenes(table)).items()
        ]
    else:
        keys = [asset.sha256 for asset in read_assets(table) if asset.cond_rendered]
        found = [
            PicturesToEncode(key, view_tokens_path(root, name, key), partial(asset_pictures, root, key, size))
            for key in keys
        ]
    if not found:
        raise MetadataError(
            f"{table}: expected {options.kind} with pictures, found none; run the steps before"
        )
    return found


@dataclass(frozen=True)
class TokenWork:
    """Encoding pictures; settings of a task are `PicturesToEncode`.

    Attributes:
        options: of the command line.
        device: of the encoder.
    """

    options: argparse.Namespace
    device: str

    def open(self) -> TaskFunction:
        """Load the encoder.

        Raises:
            CheckpointError: there is none, or its patches do not fit the size.
        """
        conditioner = load_conditioner(self.options)

        def run(task: Task) -> TaskResult:
            if task.settings.path.is_file():
                return TaskResult(is_skipped=True)
            try:
                encode_pictures(conditioner, task.settings)
            except ValueError as error:  # of a picture, or of the encoder's numbers
                logger.error("%s", error)
                return TaskResult(error=str(error))
            return TaskResult()

        return run


def load_conditioner(options: argparse.Namespace) -> SceneConditioner:
    """The image encoder of the command line; errors as for `TokenWork`."""
    encoder = load_network(options.model, options.device)
    if not isinstance(encoder, VisionTransformer):
        raise CheckpointError(f"{options.model}: expected an image encoder, got {type(encoder).__name__}")
    if options.image_size % (patch := encoder.patch_embed.patch_size):
        raise CheckpointError(f"--image-size: expected a multiple of {patch}, got {options.image_size}")
    return SceneConditioner(encoder, None, max_images=options.batch_size)


@torch.no_grad()
def encode_pictures(conditioner: SceneConditioner, job: PicturesToEncode) -> None:
    """Write the tokens of pictures.

    Raises:
        ValueError: a picture is missing or damaged, or a token is not finite.
    """
    pictures = job.read()
    tokens = conditioner.encode_images(torch.stack(list(pictures.values())))
    write_tokens(job.path, dict(zip(pictures, tokens)))


def encode(options: argparse.Namespace) -> int:
    """Encode the pictures of this process, where the command line says; the exit status.

    Raises:
        MetadataError: there is nothing to encode.
        CheckpointError, EngineError: see `TokenWork`; there is nowhere to encode.
    """
    scenes = options.kind == SCENES
    table = SetPaths(options.output_dir, options.set).table if scenes else options.output_dir / ASSETS_NAME
    own = shard(jobs(options, table), options.rank, options.world_size)
    tasks = (Task(job.name, job) for job in own)
    work = TokenWork(options, str(options.device))
    kind = f"cond_tokens_{options.set if scenes else options.kind}"
    journal = options.output_dir / f"{kind}_{options.rank}.jsonl"
    records = run_tasks(options.runs_on, tasks, work, options, journal, what="file", total=len(own))
    failed = {record.id: record.error for record in records if record.error is not None}
    print(f"{len(own) - len(failed)} of {len(own)} {options.kind} have their tokens")
    return write_failures(options.output_dir, kind, str(options.rank), table, failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Encode; 1 when something failed or the input cannot be used."""
    options = parse_arguments(arguments)
    return run_step(lambda: encode(options))


if __name__ == "__main__":
    sys.exit(main())
