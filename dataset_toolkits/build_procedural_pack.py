"""Write a mesh pack of procedural furniture and of part swaps between training models.

``python dataset_toolkits/build_procedural_pack.py --output data/packs/procedural.safetensors --count 4000``
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.part_swap import random_swaps
from scenegen.synthesis.furniture.procedural.pack import generate_pack


def build_swap_pack(path: Path, count: int, seed: int, stream: int) -> MeshPack:
    """Combine parts of the models of the training pack at ``path`` into at most ``count`` new models.

    Args:
        seed, stream: fix the swaps.

    Raises:
        ValueError: the pack holds a model of another split.
    """
    pack = MeshPack.load(path)
    if foreign := [info.id for info in pack.infos if info.split != "train"]:
        raise ValueError(f"{path}: expected models of the train split only, got {foreign[0]!r}")
    return MeshPack.from_meshes(random_swaps(pack.models(), count, np.random.default_rng([seed, stream])))


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--output", type=Path, required=True, help="pack to write (.safetensors)")
    parser.add_argument("--count", type=positive_int, default=4000, help="procedural models")
    parser.add_argument("--swaps", type=whole_number, default=0, help="swaps between models of --train-pack")
    parser.add_argument("--train-pack", type=Path, help="pack of the train split, for the swaps")
    parser.add_argument("--seed", type=whole_number, default=0)
    parser.add_argument("--workers", type=positive_int, default=2)
    options = parser.parse_args(arguments)
    if options.swaps and options.train_pack is None:
        parser.error("--swaps needs --train-pack, the pack whose models are combined")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate, combine and write."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    packs = []
    if options.swaps:  # first: it is quick and may refuse its pack
        packs = [build_swap_pack(options.train_pack, options.swaps, options.seed, options.count)]
    packs.insert(0, generate_pack(options.count, options.seed, options.workers))
    pack = MeshPack.concatenate(packs)
    pack.save(options.output)
    logging.info("%s: %d models, %d faces", options.output, len(pack), len(pack.faces))


if __name__ == "__main__":
    main()
