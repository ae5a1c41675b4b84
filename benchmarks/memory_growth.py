"""Memory of one process over many scenes: it must not grow.

    python benchmarks/memory_growth.py [--scenes 50] [--checkpoint DIR] [--device cpu]

Generates and writes scenes one after the other, as inference.py does for a folder of them; the folders of
--input take turns. Prints the memory in use after each scene: that of the process, and what tensors hold on a
GPU. Exits with status 1 when the mean of the last ten scenes is more than --max-mib above that of the ten
scenes after the first --warm-up ones.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from scenegen.batch.options import BatchOptions
from scenegen.batch.scenes import make_scene
from scenegen.cli.parser import CommandParser
from scenegen.inputs.layout import detect_scene, find_scene_folders
from scenegen.pipelines.memory import process_peak_bytes
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.settings import RunSettings
from scenegen.pipelines.texturing import TextureSettings

REPOSITORY = Path(__file__).resolve().parent.parent
MIB = 2**20
WINDOW = 10
_STATM = Path("/proc/self/statm")


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit status."""
    options = parse_arguments(arguments)
    if options.scenes < options.warm_up + WINDOW:
        raise SystemExit(f"--scenes: expected at least {options.warm_up + WINDOW}, got {options.scenes}")
    pipeline = SceneGenPipeline.from_pretrained(options.checkpoint, options.device)
    scenes = [detect_scene(folder) for folder in find_scene_folders(options.input)]
    print("| scene | seconds | process MiB | GPU MiB |\n|---:|---:|---:|---:|")
    used = []
    with tempfile.TemporaryDirectory() as output:
        batch = BatchOptions(
            Path(output),
            settings=RunSettings(
                sampling={"steps": options.steps},
                slat_sampling={"steps": options.slat_steps} if pipeline.config.has_appearance else {},
                texture=TextureSettings(size=options.texture_size),
            ),
            overwrite=True,
        )
        for number in range(1, options.scenes + 1):
            start = time.perf_counter()
            report = make_scene(pipeline, scenes[number % len(scenes)], batch)
            if report.status != "done":
                return 1
            seconds = time.perf_counter() - start
            used.append(memory_in_use(options.device))
            process, gpu = (size / MIB for size in used[-1])
            print(f"| {number} | {seconds:.2f} | {process:.1f} | {gpu:.1f} |", flush=True)
    return 1 if any([is_growing(list(series), options) for series in zip(*used, strict=True)]) else 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--input", type=Path, default=REPOSITORY / "assets/masked_images_test")
    parser.add_argument("--checkpoint", type=Path, default=REPOSITORY / "checkpoints/scenegen-small")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scenes", type=int, default=50)
    parser.add_argument("--warm-up", type=int, default=10, help="first scenes, which fill caches")
    parser.add_argument("--steps", type=int, default=1, help="of the structure stage")
    parser.add_argument("--slat-steps", type=int, default=1, help="of the appearance stage")
    parser.add_argument("--texture-size", type=int, default=1024)
    parser.add_argument("--max-mib", type=float, default=50.0)
    return parser.parse_args(arguments)


def memory_in_use(device: str) -> tuple[int, int]:
    """Bytes that the process holds now, and bytes of tensors on a GPU; the peak where only it is known."""
    gc.collect()
    if _STATM.is_file():
        process = int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    else:
        process = process_peak_bytes() or 0
    return process, torch.cuda.memory_allocated(device) if torch.device(device).type == "cuda" else 0


def is_growing(used: list[int], options: argparse.Namespace) -> bool:
    """Compare the mean of the last scenes with that of the first ones, and print it."""
    early = used[options.warm_up : options.warm_up + WINDOW]
    growth = (sum(used[-WINDOW:]) - sum(early)) / WINDOW / MIB
    print(f"growth from scenes {options.warm_up + 1} to {len(used)}: {growth:+.1f} MiB")
    return growth > options.max_mib


if __name__ == "__main__":
    sys.exit(main())
