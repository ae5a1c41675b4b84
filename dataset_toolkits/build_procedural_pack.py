"""Write a mesh pack of procedural furniture and of part swaps between training models.

``python dataset_toolkits/build_procedural_pack.py --output data/packs/procedural.safetensors --count 4000``
"""
from __future__ import annotations

import argparse
import logging
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataset_toolkits.furniture import FurnitureMesh, ModelInfo
from dataset_toolkits.mesh_pack import MeshPack
from dataset_toolkits.part_swap import random_swaps
from dataset_toolkits.procedural import generate_any


def _generate(seed: list[int]) -> tuple[FurnitureMesh, ModelInfo]:
    return generate_any(np.random.default_rng(seed))


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
    seeds = [[arguments.seed, index] for index in range(arguments.count)]
    with ProcessPoolExecutor(arguments.workers) as pool:
        models = list(tqdm(pool.map(_generate, seeds, chunksize=20), total=len(seeds), desc="procedural"))
    if arguments.swaps:
        pack = MeshPack.load(arguments.train_pack)
        if foreign := [info.id for info in pack.infos if info.split != "train"]:
            raise SystemExit(f"{arguments.train_pack}: expected models of the train split only, got {foreign[0]!r}")
        originals = [(pack.mesh(index), info) for index, info in enumerate(pack.infos)]
        models += random_swaps(originals, arguments.swaps, np.random.default_rng([arguments.seed, arguments.count]))
    MeshPack.from_meshes(models).save(arguments.output)
    logging.info("%s: %d models, %d faces", arguments.output, len(models), sum(len(m.faces) for m, _ in models))


if __name__ == "__main__":
    main()
