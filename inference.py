"""Turn folders with a photo and object masks into 3D scenes.

Reads <input>/<scene>/{scene.jpg, 0.png, 0_mask.png, 1.png, ...}, or scene.jpg with labels.png, and writes
<output>/<scene>/{scene.glb, obj_<k>.glb, poses.json, preview.png}.

Exit status: 0 every scene is there, 1 a scene failed, 2 nothing could be started.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

# Read when PyTorch loads OpenMP. Threads that wait by spinning take the cores of those that still work: with
# other processes on the machine sampling takes twice as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from scenegen.batch import BatchOptions, SceneReport, is_pending, make_scene, scene_id
from scenegen.pipelines.export import FORMATS
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.scene_folder import SceneInputError, find_scene_folders
from trellis_modules.checkpoint import CheckpointError

logger = logging.getLogger("inference")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        folders = find_scene_folders(options.input)[: options.limit]
        reports = run_scenes(folders, options)
    except (SceneInputError, CheckpointError) as error:
        logger.error("%s", error)
        return 2
    counts = {status: sum(r.status == status for r in reports) for status in ("done", "skipped", "failed")}
    if options.json:
        print(json.dumps({**counts, "scenes": [asdict(report) for report in reports]}, indent=2))
    else:
        print(", ".join(f"{count} {status}" for status, count in counts.items()), f"in {options.output}")
    return 1 if counts["failed"] else 0


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line; exits with status 2 on a bad argument."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--input", type=Path, default="assets/masked_images_test", help="folder of scenes")
    parser.add_argument("--output", type=Path, default="outputs", help="folder for the results")
    parser.add_argument("--checkpoint", type=Path, default="checkpoints/scenegen-small")
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--steps", type=positive_int, help="sampling steps; default: the checkpoint's")
    parser.add_argument("--formats", type=formats, default=FORMATS, help=f"some of {','.join(FORMATS)}")
    parser.add_argument("--limit", type=positive_int, help="only the first N scenes")
    parser.add_argument("--overwrite", action="store_true", help="make finished scenes again")
    parser.add_argument(
        "--no_scene_attention", action="store_true", help="every object by itself, for comparisons"
    )
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser.parse_args(arguments)


def device(text: str) -> torch.device:
    """A device that this machine has."""
    try:
        found = torch.device(text)
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"expected cpu, cuda or cuda:<n>, got {text!r}") from error
    available = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(found.type, 0)
    if (found.index or 0) >= available:
        raise argparse.ArgumentTypeError(f"expected a device of this machine, got {text!r}; use cpu")
    return found


def positive_int(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")
    return int(text)


def formats(text: str) -> tuple[str, ...]:
    """Names of output formats, separated by commas."""
    names = tuple(part.strip() for part in text.split(","))
    if unknown := sorted(set(names) - set(FORMATS)):
        raise argparse.ArgumentTypeError(f"unknown format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    return names


def run_scenes(folders: list[Path], options: argparse.Namespace) -> list[SceneReport]:
    """Make every scene that is not there yet, under progress bars for scenes and sampling steps."""
    batch = BatchOptions(
        options.output,
        options.formats,
        options.seed,
        options.steps,
        options.overwrite,
        scene_attention=not options.no_scene_attention,
    )
    reports = {folder: SceneReport(scene_id(folder)) for folder in folders}
    todo = [folder for folder in folders if is_pending(folder, batch)]
    if todo:
        dtype = getattr(torch, options.dtype)
        pipeline = SceneGenPipeline.from_pretrained(options.checkpoint, options.device, dtype)
        with logging_redirect_tqdm():
            for folder in tqdm(todo, unit="scene"):
                with tqdm(desc=scene_id(folder), unit="step", leave=False) as bar:
                    reports[folder] = make_scene(pipeline, folder, batch, partial(show_step, bar))
    return list(reports.values())


def show_step(bar: tqdm, done: int, total: int) -> None:
    """Move a bar to ``done`` of ``total`` steps."""
    bar.total = total
    bar.update(done - bar.n)


if __name__ == "__main__":
    sys.exit(main())
