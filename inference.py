"""Turn photos with object masks into 3D scenes.

Reads <input>/<scene>/ with either
  scene.jpg and 0.png, 0_mask.png, 1.png, ...   cut-outs, masks, or both
  scene.jpg and labels.png or masks.npy         one grey value, or one mask, per object
  0.png, 1.png, ...                             RGBA cut-outs of one size alone
  view_0/, view_1/, ...                         several photos of one scene, each as above
or one photo as <input> with its masks in a file (--masks), and writes
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
from typing import get_args

# Read when PyTorch loads OpenMP. Threads that wait by spinning take the cores of those that still work: with
# other processes on the machine sampling takes twice as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Read when PyTorch first uses a GPU: matrix products that give the same bits every time.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from scenegen.batch import BatchOptions, SceneReport, is_pending, make_scene
from scenegen.image_files import SceneInputError
from scenegen.pipelines.export import FORMATS
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.texturing import TextureMode, TextureSettings
from scenegen.scene_folder import find_scene_folders, scene_id_of
from trellis_modules.checkpoint import CheckpointError

logger = logging.getLogger("inference")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        scenes = [options.input] if options.masks else find_scene_folders(options.input)
        reports = run_scenes(scenes[: options.limit], options)
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
    add_input_arguments(parser)
    add_model_arguments(parser)
    add_result_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        options.batch = batch_options(options)
    except ValueError as error:
        parser.error(str(error))
    return options


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """What is read."""
    parser.add_argument("--input", type=Path, default="assets/masked_images_test", help="folder of scenes")
    parser.add_argument("--masks", type=Path, help="label image or .npy array, when --input is a photo")
    parser.add_argument("--limit", type=positive_int, help="only the first N scenes")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """What makes the scenes, and how."""
    parser.add_argument(
        "--checkpoint", default="checkpoints/scenegen-small", help="folder, or owner/name on the model hub"
    )
    parser.add_argument("--revision", help="of a checkpoint on the hub")
    parser.add_argument("--device", type=device, default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="default: float32 on a CPU, else float16"
    )
    parser.add_argument(
        "--low-vram", action="store_true", help="load each network for its stage and free it after it"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--steps", type=positive_int, help="sampling steps; default: the checkpoint's")
    parser.add_argument("--cfg", type=non_negative, help="guidance strength; default: the checkpoint's")
    parser.add_argument("--slat-steps", type=positive_int, help="sampling steps of the appearance stage")
    parser.add_argument("--slat-cfg", type=non_negative, help="guidance strength of the appearance stage")
    parser.add_argument(
        "--no_scene_attention", action="store_true", help="every object by itself, for comparisons"
    )


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """What is written."""
    texture = TextureSettings()
    parser.add_argument("--output", type=Path, default="outputs", help="folder for the results")
    parser.add_argument("--formats", type=formats, default=FORMATS, help=f"some of {','.join(FORMATS)}")
    parser.add_argument("--overwrite", action="store_true", help="make finished scenes again")
    parser.add_argument(
        "--texture", choices=("gaussian", "mesh"), help="source of the colours; default: the checkpoint's"
    )
    parser.add_argument(
        "--texture-mode", choices=get_args(TextureMode), default=texture.mode, help="for --texture gaussian"
    )
    parser.add_argument("--texture-size", type=positive_int, default=texture.size)
    parser.add_argument("--simplify", type=float, default=texture.simplify, help="share of faces to remove")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")


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


def non_negative(text: str) -> float:
    """A number of at least 0."""
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from error
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def formats(text: str) -> tuple[str, ...]:
    """Names of output formats, separated by commas."""
    names = tuple(part.strip() for part in text.split(","))
    if unknown := sorted(set(names) - set(FORMATS)):
        raise argparse.ArgumentTypeError(f"unknown format {unknown[0]!r}; known: {', '.join(FORMATS)}")
    return names


def batch_options(options: argparse.Namespace) -> BatchOptions:
    """The part of the command line that concerns every scene.

    Raises:
        ValueError: a texture setting is out of range.
    """
    return BatchOptions(
        options.output,
        options.formats,
        options.seed,
        sampling=given(steps=options.steps, cfg_strength=options.cfg),
        slat_sampling=given(steps=options.slat_steps, cfg_strength=options.slat_cfg),
        texture=TextureSettings(
            options.texture, options.texture_mode, options.texture_size, options.simplify
        ),
        overwrite=options.overwrite,
        scene_attention=not options.no_scene_attention,
        masks=options.masks,
    )


def given(**settings: float | None) -> dict[str, float]:
    """The settings that are not None."""
    return {name: value for name, value in settings.items() if value is not None}


def run_scenes(sources: list[Path], options: argparse.Namespace) -> list[SceneReport]:
    """Make every scene that is not there yet, under progress bars for scenes and sampling steps."""
    batch = options.batch
    reports = {source: SceneReport(scene_id_of(source)) for source in sources}
    todo = [source for source in sources if is_pending(source, batch)]
    if todo:
        pipeline = SceneGenPipeline.from_pretrained(
            options.checkpoint,
            options.device,
            getattr(torch, options.dtype) if options.dtype else None,
            revision=options.revision,
            offload=options.low_vram,
        )
        if batch.slat_sampling and not pipeline.config.has_appearance:
            raise CheckpointError(
                f"{options.checkpoint}: --slat-steps and --slat-cfg need an appearance stage, the checkpoint "
                "has none; leave them out"
            )
        with logging_redirect_tqdm():
            for source in tqdm(todo, unit="scene"):
                with tqdm(desc=scene_id_of(source), unit="step", leave=False) as bar:
                    reports[source] = make_scene(pipeline, source, batch, partial(show_step, bar))
    return list(reports.values())


def show_step(bar: tqdm, done: int, total: int) -> None:
    """Move a bar to ``done`` of ``total`` steps; each stage begins anew."""
    bar.total = total
    bar.update(done - bar.n)


if __name__ == "__main__":
    sys.exit(main())
