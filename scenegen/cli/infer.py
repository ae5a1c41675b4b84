"""Turn photos with object masks into 3D scenes.

Reads <input>/<scene>/ with either
  scene.jpg and 0.png, 0_mask.png, 1.png, ...   cut-outs, masks, or both
  scene.jpg and labels.png or masks.npy         one grey value, or one mask, per object
  scene.jpg and coco.json                       polygons or run lengths
  0.png, 1.png, ...                             RGBA cut-outs of one size alone
  scene.jpg and boxes.json                      one box per object, or points; SAM 2 finds the masks
  view_0/, view_1/, ...                         several photos of one scene, each as above
or one photo as <input> with its masks in a file (--masks), boxes in a file (--boxes), or neither
(--auto-masks), and writes
<output>/<scene>/{scene.glb, obj_<k>.glb, poses.json, preview.png}, and labels.png where it found the masks.
With --output-dir ROOT --set SET it makes the scenes of a data root, to be compared with true ones.

Exit status: 0 every scene is there, 1 a scene failed, 2 nothing could be started.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from safe_files.pictures import pixel_limit
from scenegen.batch.finished import is_pending
from scenegen.batch.scenes import SceneReport, make_scene, needs_masks, segment_scenes
from scenegen.cli.bundled import EXAMPLE_SCENES
from scenegen.cli.demo import show_page
from scenegen.cli.inference_options import (
    appearance_flags,
    needed_representations,
    parse_arguments,
    texture_mode_problem,
)
from scenegen.cli.reports import (
    count_statuses,
    doubt_lines,
    set_up_logging,
    summary,
    tell_device,
    tell_scene,
    what_to_open,
)
from scenegen.cli.root_options import only_named, run_on_gpus, share, speed_line
from scenegen.cli.segmenter_options import segmenter_of
from scenegen.demo.viewer import default_truth_folder
from scenegen.export.scene_files import ExportError, check_output
from scenegen.inputs.image_files import SceneInputError, one_line
from scenegen.inputs.layout import InputScene, detect_scene, find_scene_folders
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.progress import Progress
from scenegen.pipelines.settings import DECODER_ROLES
from trellis_modules.checkpoint import CheckpointError

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(__doc__, arguments, prog)
    set_up_logging()
    try:
        sources = find_sources(options)[: options.limit]
        scenes = [detect_scene(source, options.masks, options.boxes) for source in sources]
        if options.is_root:
            scenes = [scene for scene in only_named(scenes, options) if is_pending(scene, options.batch)]
            scenes = share(scenes, options)  # dealt out after the finished ones are left out
        if options.gpus and scenes:
            check_output(options.batch.output)
            reports = run_on_gpus(scenes, options, sys.argv[1:] if arguments is None else arguments)
        else:
            with pixel_limit(options.max_pixels):
                reports = run_scenes(scenes, options)
    except (SceneInputError, CheckpointError, ExportError) as error:
        logger.error("%s", error)
        return 2
    counts = count_statuses(reports)
    if options.json:
        print(json.dumps({**counts, "scenes": [asdict(report) for report in reports]}, indent=2))
    else:
        peak = max((gib for report in reports for gib in report.peak_gib.values()), default=0.0)
        memory = f", peak memory {peak:.2f} GiB" if peak else ""
        print(summary(counts, options.output, memory))
        for line in doubt_lines(reports):
            print(line)
        if options.is_root:
            print(speed_line(reports))
        elif line := what_to_open(reports, options.output):
            print(line)
    if options.viewer:
        truth = options.truth or default_truth_folder(options.input)
        if not show_page(options.output, truth, options.host, options.port):
            return 2
    return 1 if counts["failed"] else 0


def find_sources(options: argparse.Namespace) -> list[Path]:
    """Scene folders, or the photo that is the input.

    Raises:
        SceneInputError: there is no scene, or options for one photo come without it, or it without them.
    """
    photo, masks = options.input, options.masks or options.boxes
    if photo == Path(EXAMPLE_SCENES) and not photo.exists():
        raise SceneInputError(
            f"{photo}: expected the example scenes, found none; they come with the source code and not with "
            "an installed package: pass a photo or a folder of scenes as --input"
        )
    if photo.is_file() and not (masks or options.auto_masks) and detect_scene(photo).photos[0].form is None:
        raise SceneInputError(
            f"{photo}: expected masks for this photo; add --masks, --boxes or --auto-masks, or pass a folder"
        )
    if masks and not photo.is_file():
        raise SceneInputError(
            f"{photo}: expected the photo that {masks} belongs to, found no such file; pass it as --input"
        )
    return [photo] if photo.is_file() else find_scene_folders(photo)


def run_scenes(scenes: list[InputScene], options: argparse.Namespace) -> list[SceneReport]:
    """Make every scene that is not there yet, under progress bars for scenes and their stages."""
    batch = options.batch
    reports = {scene.source: SceneReport(scene.scene_id) for scene in scenes}
    todo = [scene for scene in scenes if is_pending(scene, batch)]
    if todo:
        tell_device(options.device, options.dtype)
        check_output(batch.output)
    if waiting := [scene for scene in todo if needs_masks(scene, batch)]:
        failed = find_missing_masks(waiting, options, is_all=waiting == todo)
        reports |= failed
        todo = [scene for scene in todo if scene.source not in failed]
    if todo:
        pipeline = load_pipeline(options)
        with logging_redirect_tqdm():
            for number, scene in enumerate(tqdm(todo, unit="scene", disable=None), start=1):
                start = time.perf_counter()
                with tqdm(desc=one_line(scene.scene_id), leave=False, disable=None) as bar:
                    report = make_scene(pipeline, scene, batch, partial(show_progress, bar))
                reports[scene.source] = report
                tell_scene(report, number, len(todo), time.perf_counter() - start)
    return list(reports.values())


def load_pipeline(options: argparse.Namespace) -> SceneGenPipeline:
    """Load what makes the scenes.

    Raises:
        CheckpointError: a file is missing or damaged, or lacks the stage that an option is for.
    """
    pipeline = SceneGenPipeline.from_pretrained(
        options.checkpoint,
        options.device,
        getattr(torch, options.dtype) if options.dtype else None,
        revision=options.revision,
        offload=options.low_vram,
    )
    check_checkpoint(pipeline, options)
    return pipeline


def check_checkpoint(pipeline: SceneGenPipeline, options: argparse.Namespace) -> None:
    """Refuse options that have no effect with a checkpoint, or that it has no networks for.

    Raises:
        CheckpointError: the checkpoint has no appearance stage, lacks a decoder, or takes its textures from
            where colours are not read in the mode that was given.
    """
    config = pipeline.config
    if not config.has_appearance and (wanted := appearance_flags(options)):
        raise CheckpointError(
            f"{options.checkpoint}: {', '.join(wanted)}: needs an appearance stage, the checkpoint has none; "
            "leave it out"
        )
    if options.keep_holes and not config.has_scene:
        raise CheckpointError(
            f"{options.checkpoint}: --keep-holes: holes are closed where a network places the objects, which "
            "the checkpoint lacks; leave it out"
        )
    for flag, representation in needed_representations(options).items():
        if (role := DECODER_ROLES[representation]) not in pipeline.networks.roles:
            raise CheckpointError(
                f"{options.checkpoint}: {flag}: needs the network {role!r}, the checkpoint has none; "
                "leave it out"
            )
    source = options.texture or config.default_texture_source
    if problem := texture_mode_problem(source, options.texture_mode):
        raise CheckpointError(f"{options.checkpoint}: {problem}")


def find_missing_masks(
    scenes: list[InputScene], options: argparse.Namespace, is_all: bool
) -> dict[Path, SceneReport]:
    """Find the masks of scenes without, and return the reports of those where that failed.

    Raises:
        CheckpointError: the segmenter cannot be had, and there is no other scene to go on with.
    """
    load = partial(segmenter_of, options)
    try:
        with logging_redirect_tqdm():
            return segment_scenes(tqdm(scenes, desc="masks", unit="scene", disable=None), options.batch, load)
    except CheckpointError as error:
        if is_all:
            raise
        logger.error("%s", error)
        return {scene.source: SceneReport(scene.scene_id, "failed", str(error)) for scene in scenes}


def show_progress(bar: tqdm, progress: Progress) -> None:
    """Move a bar to where a stage of the scene is; each stage begins anew."""
    bar.set_postfix_str(progress.stage, refresh=False)
    bar.total = progress.total
    bar.update(progress.done - bar.n)
