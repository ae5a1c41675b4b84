"""Write a mesh pack of procedural furniture and of part swaps between training models.

``python dataset_toolkits/build_procedural_pack.py --output data/packs/procedural.safetensors --count 4000``
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np

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


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="pack to write (.safetensors)")
    parser.add_argument("--count", type=int, default=4000, help="procedural models")
    parser.add_argument("--swaps", type=int, default=0, help="part swaps between the models of --train_pack")
    parser.add_argument("--train_pack", type=Path, help="pack of the train split, for the swaps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.swaps and arguments.train_pack is None:
        parser.error("--swaps needs --train_pack, the pack whose models are combined")
    return arguments


def main() -> None:
    """Generate, combine and write."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    packs = []
    if arguments.swaps:  # first: it is quick and may refuse its pack
        packs = [build_swap_pack(arguments.train_pack, arguments.swaps, arguments.seed, arguments.count)]
    packs.insert(0, generate_pack(arguments.count, arguments.seed, arguments.workers))
    pack = MeshPack.concatenate(packs)
    pack.save(arguments.output)
    logging.info("%s: %d models, %d faces", arguments.output, len(pack), len(pack.faces))


if __name__ == "__main__":
    main()
