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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from safe_files.pictures import pixel_limit
from scenegen.batch.engines.tasks import EngineError, Work
from scenegen.batch.finished import is_pending
from scenegen.batch.scenes import SceneReport, needs_masks
from scenegen.batch.work import MaskWork, SceneWork, scene_task
from scenegen.cli.bundled import EXAMPLE_SCENES
from scenegen.cli.checkpoint_needs import appearance_flags, needed_representations, texture_mode_problem
from scenegen.cli.demo import show_page
from scenegen.cli.engine_options import LOCAL, is_in_this_process, run_tasks
from scenegen.cli.inference_options import parse_arguments
from scenegen.cli.reports import (
    count_statuses,
    doubt_lines,
    set_up_logging,
    summary,
    tell_device,
    what_to_open,
)
from scenegen.cli.root_options import only_named, share, speed_line
from scenegen.cli.segmenter_options import segmenter_of
from scenegen.cli.stored_scenes import is_stored, run_stored, tell_stored
from scenegen.demo.viewer import default_truth_folder
from scenegen.export.scene_files import ExportError, check_output
from scenegen.inputs.image_files import SceneInputError, one_line
from scenegen.inputs.layout import InputScene, detect_scene, find_scene_folders
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.progress import OnProgress, Progress
from scenegen.pipelines.settings import DECODER_ROLES
from scenegen.stores.kept import kept_copy
from scenegen.stores.urls import StoreError
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.memory import release_memory

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(__doc__, arguments, prog)
    set_up_logging()
    try:
        if is_stored(options):
            return tell_stored(run_stored(scene_work(options), options, "scene"), options)
        with pixel_limit(options.max_pixels):
            reports = run_scenes(scenes_of(options), options)
    except (SceneInputError, CheckpointError, ExportError, EngineError, StoreError) as error:
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


def scenes_of(options: argparse.Namespace) -> list[InputScene]:
    """The scenes that the command line names; errors as for `find_sources` and `only_named`."""
    sources = find_sources(options)[: options.limit]
    scenes = [detect_scene(source, options.masks, options.boxes) for source in sources]
    if not options.is_root:
        return scenes
    scenes = [scene for scene in only_named(scenes, options) if is_pending(scene, options.batch)]
    return share(scenes, options)  # dealt out after the finished ones are left out


def scene_work(options: argparse.Namespace) -> SceneWork:
    """What is done with every scene."""
    return SceneWork(
        partial(load_pipeline, options),
        options.batch,
        str(options.device),
        options.low_vram,
        options.max_pixels,
        stage_bar if is_in_this_process(options) else None,
    )


def run_scenes(scenes: list[InputScene], options: argparse.Namespace) -> list[SceneReport]:
    """Make every scene that is not there yet, where the command line says; the masks that they lack first."""
    batch = options.batch
    reports = {scene.scene_id: SceneReport(scene.scene_id) for scene in scenes}
    todo = [scene for scene in scenes if is_pending(scene, batch)]
    if todo:
        if options.engine == LOCAL:
            tell_device(options.device, options.dtype)
        check_output(batch.output)
    if waiting := [scene for scene in todo if needs_masks(scene, batch)]:
        failed = find_missing_masks(waiting, options, is_all=waiting == todo)
        reports |= failed
        todo = [scene for scene in todo if scene.scene_id not in failed]
    if todo:
        reports |= {
            report.scene_id: report for report in reports_of(todo, scene_work(options), options, "scene")
        }
    return list(reports.values())


def reports_of(
    scenes: list[InputScene], work: Work, options: argparse.Namespace, what: str
) -> Iterator[SceneReport]:
    """Work on scenes, and report each as it ends."""
    tasks = (scene_task(scene, options.masks, options.boxes) for scene in scenes)
    share = f"_{options.gpu_id}" if options.is_root and options.gpu_num > 1 else ""
    journal = options.batch.output / f"tasks{share}.jsonl"
    records = run_tasks(options.runs_on, tasks, work, options, journal, what=what, total=len(scenes))
    for record in records:
        yield record.value or SceneReport(record.id, "failed", record.error)


def load_pipeline(options: argparse.Namespace, low_vram: bool) -> SceneGenPipeline:
    """Load what makes the scenes.

    Args:
        options: of the command line.
        low_vram: whether each network is loaded for its stage alone.

    Raises:
        CheckpointError: a file is missing or damaged, or lacks the stage that an option is for.
    """
    if options.checkpoint_url is not None:
        kept_copy(options.checkpoint_url)  # on a host that has none yet
    pipeline = SceneGenPipeline.from_pretrained(
        options.checkpoint,
        options.device,
        getattr(torch, options.dtype) if options.dtype else None,
        revision=options.revision,
        offload=low_vram,
        few_steps=options.few_steps,
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
) -> dict[str, SceneReport]:
    """Find the masks of scenes without, and return the reports of those where that failed, by their ids.

    Raises:
        CheckpointError: the segmenter cannot be had, and there is no other scene to go on with.
    """
    work = MaskWork(partial(segmenter_of, options), options.batch, str(options.device), options.max_pixels)
    try:
        reports = list(reports_of(scenes, work, options, "photo"))
    except CheckpointError as error:
        if is_all:
            raise
        logger.error("%s", error)
        return {scene.scene_id: SceneReport(scene.scene_id, "failed", str(error)) for scene in scenes}
    release_memory()  # of the segmenter, before the pipeline is loaded
    return {report.scene_id: report for report in reports if report.status == "failed"}


@contextmanager
def stage_bar(scene_id: str) -> Iterator[OnProgress]:
    """A bar for the stages of a scene, for the length of a ``with`` block."""
    with tqdm(desc=one_line(scene_id), leave=False, disable=None) as bar:
        yield partial(show_progress, bar)


def show_progress(bar: tqdm, progress: Progress) -> None:
    """Move a bar to where a stage of the scene is; each stage begins anew."""
    bar.set_postfix_str(progress.stage, refresh=False)
    bar.total = progress.total
    bar.update(progress.done - bar.n)
