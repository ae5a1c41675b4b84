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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from dataset_toolkits.asset_work import check_engine
from dataset_toolkits.encoding import add_device
from dataset_toolkits.extract_feature import DEFAULT_MODEL
from dataset_toolkits.image_features import IMAGE_SIZE
from dataset_toolkits.photos.engine import PhotoWork, run_photos
from dataset_toolkits.photos.failures import write_failures
from dataset_toolkits.photos.rows import grouped
from dataset_toolkits.photos.set_paths import RENDERS_COND, SETS, SetPaths
from dataset_toolkits.steps import add_output_dir, check_rank, run_step
from scenegen.batch.engines.tasks import Task, TaskResult
from scenegen.checkpoints.networks import load_network
from scenegen.cli.engine_options import add_engine_arguments
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.conditioning.scene_conditioner import SceneConditioner
from scenegen.datasets.asset_samples import cond_views, read_cond_view
from scenegen.datasets.cond_tokens import SCENE_KEY, object_key, tokens_path, view_tokens_path, write_tokens
from scenegen.datasets.metadata import ASSETS_NAME, SceneRow, read_assets, read_scenes
from scenegen.datasets.records import shard
from scenegen.datasets.sample_files import mask_path, prepare_cutout, read_mask, read_photo, read_picture
from scenegen.datasets.tables import MetadataError
from scenegen.stores.root_files import RootFiles
from trellis_modules.checkpoint import CheckpointError
from vggt.layers.vision_transformer import VisionTransformer

logger = logging.getLogger("encode_cond")

SCENES, ASSETS = KINDS = ("scenes", "assets")


@dataclass(frozen=True)
class PicturesToEncode:
    """The pictures of a scene or an asset, and the file for their tokens; can be pickled.

    Attributes:
        target: the file, from the data root on.
        inputs: names of what is read, likewise.
        read: gives the pictures (3, S, S) by their names in the file, of a data root; raises SampleError.
    """

    target: str
    inputs: tuple[str, ...]
    read: Callable[[Path], Mapping[str, Tensor]]


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    add_output_dir(parser, may_be_stored=True)
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


def scene_pictures(rows: Sequence[SceneRow], size: int, root: Path) -> dict[str, Tensor]:
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


def asset_pictures(sha256: str, size: int, root: Path) -> dict[str, Tensor]:
    """All pictures of an asset alone as training sees them, by their file names.

    Raises:
        SampleError: a picture is missing or damaged.
    """
    return {path.name: read_cond_view(path, size) for path in cond_views(root, sha256)}


def jobs(options: argparse.Namespace, table: Path) -> dict[str, PicturesToEncode]:
    """What there is to encode, for all processes, by the name of the scene or asset.

    Raises:
        MetadataError: the table is missing, or has a line that cannot be used, or nothing to encode.
    """
    size, model = options.image_size, PurePosixPath(options.model).name
    if options.kind == SCENES:
        found = {
            name: PicturesToEncode(
                tokens_path(Path(), model, name).as_posix(),
                tuple(_pictures_of(rows)),
                partial(scene_pictures, rows, size),
            )
            for name, rows in grouped(read_scenes(table)).items()
        }
    else:
        keys = [asset.sha256 for asset in read_assets(table) if asset.cond_rendered]
        found = {
            key: PicturesToEncode(
                view_tokens_path(Path(), model, key).as_posix(),
                (f"{RENDERS_COND}/{key}",),
                partial(asset_pictures, key, size),
            )
            for key in keys
        }
    if not found:
        raise MetadataError(
            f"{table}: expected {options.kind} with pictures, found none; run the steps before"
        )
    return found


def _pictures_of(rows: Sequence[SceneRow]) -> Iterator[str]:
    """Files of a scene that its pictures are made of."""
    yield rows[0].scene_image_path
    for row in rows:
        yield row.masked_image_path
        yield mask_path(Path(row.masked_image_path)).as_posix()


@dataclass(frozen=True)
class TokenEncoder:
    """Encodes the pictures of one job after the other.

    Attributes:
        conditioner: has the image encoder.
    """

    conditioner: SceneConditioner

    @classmethod
    def load(cls, options: argparse.Namespace) -> TokenEncoder:
        """Load the encoder; errors as for `load_conditioner`."""
        return cls(load_conditioner(options))

    def __call__(self, files: RootFiles, job: PicturesToEncode) -> TaskResult:
        """Write the tokens of a job unless they are there; what is wrong with its pictures is the error."""
        if files.states(job.target):
            return TaskResult(is_skipped=True)
        try:
            with files.here(job.inputs, (job.target,)):
                encode_pictures(self.conditioner, job, files.root)
        except ValueError as error:  # of a picture, or of the encoder's numbers
            told = files.told(str(error))
            logger.error("%s", told)
            return TaskResult(error=told)
        return TaskResult()


def load_conditioner(options: argparse.Namespace) -> SceneConditioner:
    """The image encoder of the command line.

    Raises:
        CheckpointError: there is none, or its patches do not fit the size.
    """
    encoder = load_network(options.model, options.device)
    if not isinstance(encoder, VisionTransformer):
        raise CheckpointError(f"{options.model}: expected an image encoder, got {type(encoder).__name__}")
    if options.image_size % (patch := encoder.patch_embed.patch_size):
        raise CheckpointError(f"--image-size: expected a multiple of {patch}, got {options.image_size}")
    return SceneConditioner(encoder, None, max_images=options.batch_size)


@torch.no_grad()
def encode_pictures(conditioner: SceneConditioner, job: PicturesToEncode, root: Path) -> None:
    """Write the tokens of pictures of a data root.

    Raises:
        ValueError: a picture is missing or damaged, or a token is not finite.
    """
    pictures = job.read(root)
    tokens = conditioner.encode_images(torch.stack(list(pictures.values())))
    write_tokens(root / job.target, dict(zip(pictures, tokens)))


def encode(options: argparse.Namespace) -> int:
    """Encode the pictures of this process, where the command line says; the exit status.

    Raises:
        MetadataError: there is nothing to encode.
        CheckpointError, EngineError: see `load_conditioner`; there is nowhere to encode.
    """
    scenes = options.kind == SCENES
    table = SetPaths(options.output_dir, options.set).table if scenes else options.output_dir / ASSETS_NAME
    found = jobs(options, table)
    own = shard(list(found), options.rank, options.world_size)
    tasks = (Task(name, found[name]) for name in own)
    work = PhotoWork(
        options.output_dir, options.root_url, partial(TokenEncoder.load, options), str(options.device)
    )
    kind = f"cond_tokens_{options.set if scenes else options.kind}"
    records = run_photos(work, tasks, options, f"{kind}_{options.rank}", "file", len(own))
    failed = {record.id: record.error for record in records if record.error is not None}
    print(f"{len(own) - len(failed)} of {len(own)} {options.kind} have their tokens")
    return write_failures(options.output_dir, kind, str(options.rank), table, failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Encode; 1 when something failed or the input cannot be used."""
    options = parse_arguments(arguments)
    return run_step(lambda: encode(options), options=options)


if __name__ == "__main__":
    sys.exit(main())
