"""Write a mesh pack of procedural furniture and of part swaps between training models.

``python -m dataset_toolkits.build_procedural_pack --output data/packs/procedural.safetensors --count 4000``
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import numpy as np

from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.part_swap import random_swaps
from scenegen.synthesis.furniture.procedural.pack import generate_pack

logger = logging.getLogger("build_procedural_pack")


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


def main() -> int:
    """Generate, combine and write; 1 when the training pack is unusable."""
    arguments = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    packs = []
    if arguments.swaps:  # first: it is quick and may refuse its pack
        try:
            models = MeshPack.load_for_training(arguments.train_pack).models()
        except ValueError as error:
            logger.error("%s", error)
            return 1
        rng = np.random.default_rng([arguments.seed, arguments.count])
        packs = [MeshPack.from_meshes(random_swaps(models, arguments.swaps, rng))]
    packs.insert(0, generate_pack(arguments.count, arguments.seed, arguments.workers))
    pack = MeshPack.concatenate(packs)
    pack.save(arguments.output)
    logger.info("%s: %d models, %d faces", arguments.output, len(pack), len(pack.faces))
    return 0


if __name__ == "__main__":
    sys.exit(main())
