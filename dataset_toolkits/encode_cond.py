"""Tokens of the pictures of scenes: python dataset_toolkits/encode_cond.py --output-dir R.

Reads ``metadata_scene[_test].csv``, and writes ``cond_tokens/<model>/<scene>.safetensors`` with what a frozen
image encoder makes of every cut-out, mask and photo. A training run whose data set has ``"cond_tokens":
"<model>"`` reads these in place of the pictures and needs no image encoder. Scenes whose file is there are
left as they are.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from dataset_toolkits.encoding import add_device
from dataset_toolkits.extract_feature import DEFAULT_MODEL
from dataset_toolkits.image_features import IMAGE_SIZE
from dataset_toolkits.photos.failures import write_failures
from dataset_toolkits.photos.rows import grouped
from dataset_toolkits.photos.set_paths import SETS, SetPaths
from dataset_toolkits.steps import add_output_dir, check_rank, run_step
from scenegen.checkpoints.networks import load_network
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.conditioning.scene_conditioner import SceneConditioner
from scenegen.datasets.cond_tokens import SCENE_KEY, object_key, tokens_path, write_tokens
from scenegen.datasets.metadata import SceneRow, read_scenes
from scenegen.datasets.records import shard
from scenegen.datasets.sample_files import prepare_cutout, read_mask, read_photo, read_picture
from scenegen.datasets.tables import MetadataError
from trellis_modules.checkpoint import CheckpointError
from vggt.layers.vision_transformer import VisionTransformer

logger = logging.getLogger("encode_cond")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    add_output_dir(parser)
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
    return check_rank(parser, parser.parse_args(arguments))


@torch.no_grad()
def encode_scene(
    conditioner: SceneConditioner, root: Path, rows: Sequence[SceneRow], size: int
) -> dict[str, Tensor]:
    """Tokens (T, C) of all pictures of a scene, by their names in its file.

    Raises:
        SampleError: a picture is missing or damaged.
    """
    pictures = {SCENE_KEY: read_photo(root / rows[0].scene_image_path, size)}
    for row in rows:
        path = root / row.masked_image_path
        cutout = read_picture(path)
        pictures[object_key(row, "cond")] = prepare_cutout(cutout, size, path)
        pictures[object_key(row, "mask_cond")] = read_mask(path, cutout, size).expand(3, -1, -1)
    return dict(zip(pictures, conditioner.encode_images(torch.stack(list(pictures.values())))))


def encode(options: argparse.Namespace) -> int:
    """Encode the scenes of this process; the exit status.

    Raises:
        MetadataError: the table is missing, or has a line that cannot be used.
        CheckpointError: there is no such encoder, or its patches do not fit the size.
    """
    root, name = options.output_dir, PurePosixPath(options.model).name
    table = SetPaths(root, options.set).table
    scenes = list(grouped(read_scenes(table)).values())
    if not scenes:
        raise MetadataError(f"{table}: expected scenes, found none; run build_metadata_scene.py first")
    encoder = load_network(options.model, options.device)
    if not isinstance(encoder, VisionTransformer):
        raise CheckpointError(f"{options.model}: expected an image encoder, got {type(encoder).__name__}")
    if options.image_size % (patch := encoder.patch_embed.patch_size):
        raise CheckpointError(f"--image-size: expected a multiple of {patch}, got {options.image_size}")
    conditioner = SceneConditioner(encoder, None, max_images=options.batch_size)
    failed: dict[str, str] = {}
    own = shard(scenes, options.rank, options.world_size)
    with logging_redirect_tqdm():
        for rows in tqdm(own, desc="scenes", unit="scene", disable=None):
            path = tokens_path(root, name, rows[0].scene_id)
            if path.is_file():
                continue
            try:
                write_tokens(path, encode_scene(conditioner, root, rows, options.image_size))
            except ValueError as error:  # of a picture, or of the encoder's numbers
                logger.error("%s", error)
                failed[rows[0].scene_id] = str(error)
    folder = tokens_path(root, name, "").parent
    print(f"{len(own) - len(failed)} of {len(own)} scenes in {folder}")
    return write_failures(root, f"cond_tokens_{options.set}", str(options.rank), table, failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Encode; 1 when a scene failed or the input cannot be used."""
    options = parse_arguments(arguments)
    return run_step(lambda: encode(options))


if __name__ == "__main__":
    sys.exit(main())
