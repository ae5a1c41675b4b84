"""Make pictures of objects in scenes with their structured latents, for the data set ``picture_set``.

``python -m dataset_toolkits.build_picture_set --config configs/small/structured_latent_flow.json \\
    --packs data/packs/train.safetensors data/packs/procedural.safetensors \\
    --latent-encoder outputs/structured_latent_vae/ckpts/encoder --output data/packs/pictures_0.safetensors``

An experiment trains on them whose dataset is
``{"name": "picture_set", "args": {"files": ["data/packs/pictures_0.safetensors"], "objects_per_step": 16}}``.
A GPU makes such pictures faster than it can train on them; on a CPU they take longer than the training step.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from dataset_toolkits.steps import run_step
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import default_device, device, positive_int, whole_number
from scenegen.datasets.source import SourceOptions
from scenegen.synthesis.sources.appearance_batches import LatentPictureSource
from scenegen.synthesis.sources.picture_set import PictureSet
from scenegen.trainers.data import build_source
from scenegen.trainers.experiment import load_experiment
from trellis_modules.config import ConfigError, NamedConfig

SOURCE = "latent_pictures"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--config", type=Path, required=True, help=f"experiment whose {SOURCE} are used")
    parser.add_argument("--packs", type=Path, nargs="+", required=True, help="mesh packs of the train split")
    parser.add_argument("--latent-encoder", type=Path, required=True, help="checkpoint stem")
    parser.add_argument("--output", type=Path, required=True, help="file to write (.safetensors)")
    parser.add_argument("--steps", type=positive_int, default=60, help="batches of --objects objects")
    parser.add_argument("--objects", type=positive_int, default=8)
    parser.add_argument("--shapes", type=positive_int, default=110, help="variants of furniture")
    parser.add_argument("--max-voxels", type=positive_int, default=12_000, help="leaves out larger objects")
    parser.add_argument("--seed", type=whole_number, default=0, help="of shapes and scenes")
    parser.add_argument("--workers", type=whole_number, default=0, help="processes that compose scenes ahead")
    parser.add_argument("--device", type=device, default=default_device())
    return parser.parse_args(arguments)


def make_source(options: argparse.Namespace) -> LatentPictureSource:
    """The experiment's dataset, with the sizes of the command line.

    Raises:
        ConfigError: the experiment has another dataset.
    """
    source = load_experiment(options.config).dataset
    if source.name != SOURCE:
        raise ConfigError(
            f"{options.config}: expected the dataset {SOURCE}, of which pictures are stored, "
            f"got {source.name}; give another experiment"
        )
    sizes = {
        "objects_per_step": options.objects,
        "shapes": options.shapes,
        "seed": options.seed,
        "repeat": 1,
    }
    files = SourceOptions(options.device, tuple(options.packs), options.latent_encoder, options.workers)
    return build_source(NamedConfig(SOURCE, source.args | sizes), files)


def build(options: argparse.Namespace) -> int:
    """Render, encode and write."""
    source = make_source(options)
    logging.info("encoding %d shapes first", options.shapes)
    steps = tqdm(range(options.steps), desc="pictures", unit="batch", disable=None)
    pictures = PictureSet.concatenate(
        [PictureSet.of_batch(source.batch(step), options.max_voxels) for step in steps]
    )
    pictures.of_models(info.id for info in source.pool.bank.infos).save(options.output)
    logging.info("%s: %d pictures, %d voxels", options.output, len(pictures), len(pictures.xyz))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Render, encode and write; 1 when the experiment has another dataset, or a file of it cannot be used."""
    options = parse_arguments(arguments)
    return run_step(lambda: build(options), ValueError)  # of experiments and packs; they name the file


if __name__ == "__main__":
    sys.exit(main())
