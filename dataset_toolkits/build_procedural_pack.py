"""Write a mesh pack of procedural furniture and of part swaps between training models.

``python -m dataset_toolkits.build_procedural_pack --output data/packs/procedural.safetensors --count 4000``
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dataset_toolkits.steps import run_step
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.synthesis.furniture.mesh_pack import MeshPack, PackError
from scenegen.synthesis.furniture.part_swap import random_swaps
from scenegen.synthesis.furniture.procedural.pack import generate_pack

logger = logging.getLogger("build_procedural_pack")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="pack to write (.safetensors)")
    parser.add_argument("--count", type=positive_int, default=4000, help="procedural models")
    parser.add_argument(
        "--decor",
        type=whole_number,
        default=0,
        help="besides: hanging lamps, things on walls, plants, small things",
    )
    parser.add_argument("--swaps", type=whole_number, default=0, help="swaps between models of --train-pack")
    parser.add_argument("--train-pack", type=Path, help="pack of the train split, for the swaps")
    parser.add_argument("--seed", type=whole_number, default=0)
    parser.add_argument("--workers", type=positive_int, default=2)
    options = parser.parse_args(arguments)
    if options.swaps and options.train_pack is None:
        parser.error("--swaps needs --train-pack, the pack whose models are combined")
    return options


def build(options: argparse.Namespace) -> int:
    """Generate, combine and write."""
    packs = []
    if options.swaps:  # first: it is quick and may refuse its pack
        models = MeshPack.load_for_training(options.train_pack).models()
        rng = np.random.default_rng([options.seed, options.count])
        packs = [MeshPack.from_meshes(random_swaps(models, options.swaps, rng))]
    packs.insert(0, generate_pack(options.count, options.seed, options.workers))
    if options.decor:
        packs.append(generate_pack(options.decor, options.seed, options.workers, decor=True))
    pack = MeshPack.concatenate(packs)
    pack.save(options.output)
    logger.info("%s: %d models, %d faces", options.output, len(pack), len(pack.faces))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate, combine and write; 1 when the training pack is unusable or the disk refuses."""
    options = parse_arguments(arguments)
    return run_step(lambda: build(options), PackError)


if __name__ == "__main__":
    sys.exit(main())
