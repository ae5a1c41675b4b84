"""Make pictures of objects in scenes with their structured latents, for the source ``picture_set``.

``python -m dataset_toolkits.build_picture_set --config configs/small/structured_latent_flow.json \\
    --packs data/packs/train.safetensors data/packs/procedural.safetensors \\
    --latent_encoder outputs/structured_latent_vae/ckpts/encoder --output data/packs/pictures_0.safetensors``

An experiment trains on them whose source is
``{"name": "picture_set", "args": {"files": ["data/packs/pictures_0.safetensors"], "objects_per_step": 16}}``.
A GPU makes such pictures faster than it can train on them; on a CPU they take longer than the training step.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from scenegen.synthesis.sources.batch import LatentPictureBatch
from scenegen.synthesis.sources.picture_set import PictureSet
from scenegen.synthesis.sources.registry import SourceOptions, build_source
from scenegen.synthesis.sources.source import BatchSource
from scenegen.trainers.experiment import load_experiment
from trellis_modules.config import ConfigError, NamedConfig

SOURCE = "latent_pictures"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help=f"experiment whose {SOURCE} are used")
    parser.add_argument("--packs", type=Path, nargs="+", required=True, help="mesh packs of the train split")
    parser.add_argument("--latent_encoder", type=Path, required=True, help="checkpoint stem")
    parser.add_argument("--output", type=Path, required=True, help="file to write (.safetensors)")
    parser.add_argument("--steps", type=int, default=60, help="batches of --objects objects")
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--shapes", type=int, default=110, help="variants of furniture, encoded first")
    parser.add_argument("--max_voxels", type=int, default=12_000, help="leaves out objects with more")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other shapes and scenes")
    parser.add_argument("--workers", type=int, default=0, help="processes that compose scenes ahead")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def make_source(arguments: argparse.Namespace) -> BatchSource[LatentPictureBatch]:
    """The experiment's source, with the sizes of the command line.

    Raises:
        ConfigError: the experiment has another source.
    """
    source = load_experiment(arguments.config).source
    if source.name != SOURCE:
        raise ConfigError(
            f"{arguments.config}: expected the source {SOURCE}, of which pictures are stored, "
            f"got {source.name}; give another experiment"
        )
    sizes = {
        "objects_per_step": arguments.objects,
        "shapes": arguments.shapes,
        "seed": arguments.seed,
        "repeat": 1,
    }
    options = SourceOptions(
        torch.device(arguments.device), tuple(arguments.packs), arguments.latent_encoder, arguments.workers
    )
    return build_source(NamedConfig(SOURCE, source.args | sizes), options)


def main() -> None:
    """Render, encode and write."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        source = make_source(arguments)
    except ConfigError as error:
        sys.exit(f"build_picture_set: {error}")
    logging.info("encoding %d shapes first", arguments.shapes)
    steps = tqdm(range(arguments.steps), desc="pictures", unit="batch")
    pictures = PictureSet.concatenate(
        [PictureSet.of_batch(source.batch(step), arguments.max_voxels) for step in steps]
    )
    pictures.save(arguments.output)
    logging.info("%s: %d pictures, %d voxels", arguments.output, len(pictures), len(pictures.xyz))


if __name__ == "__main__":
    main()
