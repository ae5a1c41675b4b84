"""Many procedural variants as one mesh pack, the same for any number of processes."""

from __future__ import annotations

import multiprocessing

import numpy as np

from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.procedural import CLASSES, DECOR, generate_any
from scenegen.synthesis.furniture.records import FurnitureMesh, ModelInfo

_CHUNK = 32


def generate_pack(
    count: int, seed: int = 0, workers: int = 1, *, remove_hidden: bool = True, decor: bool = False
) -> MeshPack:
    """Draw `count` variants of classes chosen by their weights.

    Args:
        count: number of meshes.
        seed: variant k depends on `seed` and k only.
        workers: processes; 1 generates in this one.
        remove_hidden: see `scenegen.synthesis.furniture.procedural.generate`; without it generation is ten
            times faster.
        decor: lamps that hang, things on walls, plants and the like in place of furniture.
    """
    jobs = [(seed, index, remove_hidden, decor) for index in range(count)]
    if workers <= 1:
        return MeshPack.from_meshes(map(_generate, jobs))
    # Started afresh: a forked copy of a process that uses a GPU or many threads may hang.
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return MeshPack.from_meshes(pool.imap(_generate, jobs, chunksize=_CHUNK))


def _generate(job: tuple[int, int, bool, bool]) -> tuple[FurnitureMesh, ModelInfo]:
    seed, index, remove_hidden, decor = job
    rng = np.random.default_rng([seed, index])
    return generate_any(rng, DECOR if decor else CLASSES, remove_hidden=remove_hidden)
