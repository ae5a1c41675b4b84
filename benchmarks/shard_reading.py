"""How many training samples a second are read from shards: structure latents, and scenes with all keys.

``python -m benchmarks.shard_reading --scenes 64 --latents 4000 --workers 2``

Shards of random samples at the published sizes are written to a temporary folder first: latents of 8 x 16^3,
pictures of 518 pixels, a geometry feature of 1374 x 2048. Scenes have four objects and all keys of
`scenegen.datasets.scene_samples`. ``--shards`` reads those of a data root instead. Every sample is read once
to warm the disk cache and then timed; one worker process is one core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, whole_number
from scenegen.datasets.furniture_ids import TRAIN
from scenegen.datasets.scene_samples import LatentSamples, SceneSampleConfig, SceneSamples
from scenegen.datasets.shards import (
    LATENTS,
    SCENES,
    ShardHeader,
    ShardSample,
    shard_name,
    shard_paths,
    write_shard,
)

IMAGE_SIZE, FEATURE_SIZE, OBJECTS = 518, (1, 1374, 2048), 4
SCENES_A_SHARD, LATENTS_A_SHARD, LATENTS_AT_ONCE = 16, 1000, 64


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--scenes", type=positive_int, default=64)
    parser.add_argument("--latents", type=positive_int, default=4000)
    parser.add_argument("--image-size", type=positive_int, default=IMAGE_SIZE, help="pixels per edge")
    parser.add_argument("--workers", type=whole_number, default=2, help="processes; 0 reads in this one")
    parser.add_argument("--shards", type=Path, help="folder of pack_scenes.py; default: random samples")
    return parser.parse_args(arguments)


def write_scenes(folder: Path, count: int, image_size: int) -> None:
    """Write shards of random scenes of four objects."""
    generator = torch.Generator().manual_seed(0)
    shape = (OBJECTS, 3, image_size, image_size)
    for number, first in enumerate(range(0, count, SCENES_A_SHARD)):
        tensors, samples = {}, []
        for place, scene in enumerate(range(first, min(first + SCENES_A_SHARD, count))):
            content = {
                "x_0": torch.randn(OBJECTS, 8, 16, 16, 16, generator=generator),
                "cond": torch.randint(256, shape, generator=generator, dtype=torch.uint8),
                "mask_cond": torch.randint(
                    256, (OBJECTS, *shape[2:]), generator=generator, dtype=torch.uint8
                ),
                "scene_image": torch.randint(256, shape[1:], generator=generator, dtype=torch.uint8),
                "vggt_feature": torch.randn(FEATURE_SIZE, generator=generator).half(),
                "translation": torch.randn(OBJECTS, 3, generator=generator).double(),
                "rotation": torch.randn(OBJECTS, 3, generator=generator).double() * 90,
                "scale": torch.rand(OBJECTS, generator=generator).double() + 0.5,
                "center": torch.randn(OBJECTS, 3, generator=generator).double(),
            }
            tensors |= {f"{place}.{name}": tensor for name, tensor in content.items()}
            samples.append(_sample(f"{scene:07d}", OBJECTS))
        header = ShardHeader(SCENES, TRAIN, "random", tuple(samples))
        write_shard(folder / shard_name(SCENES, TRAIN, number), header, tensors)


def write_latents(folder: Path, count: int) -> None:
    """Write shards of random latents."""
    generator = torch.Generator().manual_seed(0)
    for number, first in enumerate(range(0, count, LATENTS_A_SHARD)):
        rows = range(first, min(first + LATENTS_A_SHARD, count))
        header = ShardHeader(LATENTS, TRAIN, "random", tuple(_sample(str(row), 1) for row in rows))
        latents = torch.randn(len(rows), 8, 16, 16, 16, generator=generator)
        write_shard(folder / shard_name(LATENTS, TRAIN, number), header, {"x_0": latents})


def samples_a_second(samples: Dataset, workers: int, batch_size: int | None) -> tuple[float, int]:
    """Read every sample twice, in another order each time, and time the second round.

    Returns:
        Samples a second, and how many were read.
    """
    loader = DataLoader(
        samples,
        batch_size=batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        generator=torch.Generator().manual_seed(0),
    )
    count_samples(loader)
    began = time.perf_counter()
    count = count_samples(loader)
    return count / (time.perf_counter() - began), count


def count_samples(loader: Iterable[dict[str, torch.Tensor]]) -> int:
    """Read all batches; scenes come one at a time, latents in batches."""
    return sum(1 if "positions" in sample else len(sample["x_0"]) for sample in loader)


def main(arguments: list[str] | None = None) -> None:
    """Write, read and print."""
    options = parse_arguments(arguments)
    torch.set_num_threads(1)
    with ExitStack() as stack:
        folder = options.shards
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_scenes(folder, options.scenes, options.image_size)
            write_latents(folder, options.latents)
        if paths := shard_paths(folder, LATENTS, TRAIN):
            rate, count = samples_a_second(LatentSamples(paths, None), options.workers, LATENTS_AT_ONCE)
            print(f"{rate:.0f} structure latents a second ({count} read by {options.workers} processes)")
        if paths := shard_paths(folder, SCENES, TRAIN):
            config = SceneSampleConfig(min_aesthetic_score=None, needs_cond_rendered=False)
            rate, count = samples_a_second(SceneSamples(paths, config), options.workers, None)
            print(f"{rate:.1f} scenes a second ({count} read by {options.workers} processes)")


def _sample(name: str, count: int) -> ShardSample:
    return ShardSample(name, count > 1, (name,) * count, ("",) * count, (5.0,) * count, (True,) * count)


if __name__ == "__main__":
    main()
