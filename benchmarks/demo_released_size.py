"""A job of the demo at the released sizes with random weights: SAM 2 masks from boxes, then the scene.

    python -m benchmarks.demo_released_size [--device cuda] [--sam2 sam2.1-hiera-large] [--modes normal low]

SAM 2 stays loaded, as in the demo, while four objects of a photo run through every stage to a textured scene
that is written as a GLB; in low mode (``--low-vram`` of the demo) the networks of the scene are loaded in
turn. Random weights find no objects: the masks of the scene are rectangles, and structures are shells of
voxels, see `benchmarks.released_size`. Memory is the most that PyTorch had allocated on the GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.released_size import FULL_SCENE, GIB, PHOTO_SIZE, complete_glb, prepare, run_scene, say
from scenegen.cli.parser import CommandParser
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.texturing import TextureSettings
from scenegen.segmentation.prompts import ObjectPrompt
from scenegen.segmentation.sam2 import Sam2Segmenter
from scenegen.segmentation.sam2_conversion import is_published, published_config
from scenegen.segmentation.sam2_weights import build_network
from trellis_modules.memory import release_memory

REPEATS = 5


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark and return its exit status."""
    options = parse_arguments(arguments)
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    segmenter = random_sam2(options.sam2, device)
    say(f"{name}, torch {torch.__version__}, {options.dtype}; {options.sam2} in float32\n")
    say("| step | seconds | peak GiB |\n|---|---:|---:|")
    measure_masks(segmenter, device)
    with tempfile.TemporaryDirectory() as scratch:
        open_pipeline = prepare(Path(scratch), options)
        for mode in options.modes:
            pipeline = open_pipeline(mode == "low")
            measure_job(segmenter, pipeline, mode, options, Path(scratch))
            del pipeline
            release_memory()
    return 0


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"), default="float16")
    parser.add_argument("--sam2", default="sam2.1-hiera-large", help="published name (%(default)s)")
    parser.add_argument("--modes", nargs="+", choices=("normal", "low"), default=["normal", "low"])
    parser.add_argument("--voxels", type=int, default=12_800, help="of each object (%(default)s)")
    parser.add_argument("--steps", type=int, default=25, help="of both samplers (%(default)s)")
    options = parser.parse_args(arguments)
    if not is_published(options.sam2):
        parser.error(f"--sam2: expected a published name such as sam2.1-hiera-large, got {options.sam2!r}")
    return argparse.Namespace(**vars(options), folder=None, radiance_field=False)


def random_sam2(name: str, device: torch.device) -> Sam2Segmenter:
    """SAM 2 of a published size with random weights."""
    network = build_network(published_config(name), Path(name)).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.normal_(std=0.02, generator=generator)
    return Sam2Segmenter(network.eval(), name)


def photo(seed: int) -> Image.Image:
    """A photo of noise."""
    width, height = PHOTO_SIZE
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def boxes(count: int) -> list[ObjectPrompt]:
    """As many boxes side by side."""
    width, height = PHOTO_SIZE
    edges = np.linspace(20, width - 20, count + 1)
    return [ObjectPrompt(box=(left, 60.0, right, height - 60.0)) for left, right in zip(edges, edges[1:])]


def measure_masks(segmenter: Sam2Segmenter, device: torch.device) -> None:
    """Print times of masks from boxes, of new photos and of one whose features are kept."""
    measured("SAM 2, first call", lambda: segmenter.find_prompted(photo(0), boxes(1)), device)
    for count in (1, FULL_SCENE):
        images = [photo(1 + count * REPEATS + number) for number in range(REPEATS)]
        what = f"{count} box{'es' if count > 1 else ''}"
        measured(
            f"SAM 2, new photo, {what}",
            lambda: [segmenter.find_prompted(image, boxes(count)) for image in images],  # noqa: B023
            device,
            REPEATS,
        )
        measured(
            f"SAM 2, same photo, {what}",
            lambda: [segmenter.find_prompted(images[-1], boxes(count)) for _ in range(REPEATS)],  # noqa: B023
            device,
            REPEATS,
        )


def measured(step: str, work: Callable[[], object], device: torch.device, times: int = 1) -> None:
    """Print seconds of one of ``times`` equal parts of some work, and its peak memory."""
    peak = most_memory(device)
    start = time.perf_counter()
    work()
    row(step, (time.perf_counter() - start) / times, peak())


def most_memory(device: torch.device) -> Callable[[], int | None]:
    """Counts from now on; the result tells the most bytes that were allocated, None on a CPU."""
    if device.type != "cuda":
        return lambda: None
    torch.cuda.reset_peak_memory_stats(device)
    return lambda: torch.cuda.max_memory_allocated(device)


def row(step: str, seconds: float, peak_bytes: int | None) -> None:
    """Print a row of the table."""
    say(f"| {step} | {seconds:.3f} | {'' if peak_bytes is None else f'{peak_bytes / GIB:.2f}'} |")


def measure_job(
    segmenter: Sam2Segmenter,
    pipeline: SceneGenPipeline,
    mode: str,
    options: argparse.Namespace,
    folder: Path,
) -> None:
    """Print time and memory of masks, scene and GLB together; the pipeline counts anew in each stage."""
    peak = most_memory(torch.device(options.device))
    start = time.perf_counter()
    segmenter.find_prompted(photo(99), boxes(FULL_SCENE))
    masks_peak = peak()
    result = run_scene(pipeline, FULL_SCENE, options.voxels, options.steps, TextureSettings())
    complete_glb(result, folder / mode)
    seconds = time.perf_counter() - start
    stages = max(result.peak_bytes.values())
    row(
        f"job of {FULL_SCENE} objects, {mode}",
        seconds,
        None if masks_peak is None else max(masks_peak, stages),
    )


if __name__ == "__main__":
    sys.exit(main())
