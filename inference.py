"""Turn photos with object masks into 3D scenes.

Reads <input>/<scene>/ with either
  scene.jpg and 0.png, 0_mask.png, 1.png, ...   cut-outs, masks, or both
  scene.jpg and labels.png or masks.npy         one grey value, or one mask, per object
  0.png, 1.png, ...                             RGBA cut-outs of one size alone
  scene.jpg and boxes.json                      one box per object; SAM 2 finds the masks
  view_0/, view_1/, ...                         several photos of one scene, each as above
or one photo as <input> with its masks in a file (--masks), boxes in a file (--boxes), or neither
(--auto-masks), and writes
<output>/<scene>/{scene.glb, obj_<k>.glb, poses.json, preview.png}, and labels.png where it found the masks.

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
# Read when PyTorch first uses a GPU: matrix products that give the same bits every time.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from scenegen.batch.scenes import SceneReport, is_pending, make_scene, needs_masks, segment_scenes
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.cli.inference_options import appearance_flags, given, parse_arguments
from scenegen.demo.viewer import ViewerUnavailable, default_truth_folder, launch_viewer
from scenegen.evaluation.loading import EvaluationError
from scenegen.export.scene_files import ExportError, check_output
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.scene_folder import find_scene_folders, scene_id_of
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.progress import Progress
from scenegen.segmentation import Segmenter
from trellis_modules.checkpoint import CheckpointError

logger = logging.getLogger("inference")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(__doc__, arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # a line for each try; ours tells the end
    try:
        scenes = find_scenes(options)
        reports = run_scenes(scenes[: options.limit], options)
    except (SceneInputError, CheckpointError, ExportError) as error:
        logger.error("%s", error)
        return 2
    counts = {status: sum(r.status == status for r in reports) for status in ("done", "skipped", "failed")}
    if options.json:
        print(json.dumps({**counts, "scenes": [asdict(report) for report in reports]}, indent=2))
    else:
        peak = max((gib for report in reports for gib in report.peak_gib.values()), default=0.0)
        memory = f", peak memory {peak:.2f} GiB" if peak else ""
        summary = ", ".join(f"{count} {status}" for status, count in counts.items())
        hint = "; --overwrite makes skipped ones again" if counts["skipped"] else ""
        print(f"{summary} in {options.output}{memory}{hint}")
    if options.viewer and not show_page(options):
        return 2
    return 1 if counts["failed"] else 0


def show_page(options: argparse.Namespace) -> bool:
    """Serve the page of generated and true scenes until it is stopped; False where it cannot be shown."""
    truth = options.truth or default_truth_folder(options.input)
    try:
        launch_viewer(options.output, truth, **given(host=options.host), port=options.port)
    except (ViewerUnavailable, EvaluationError) as error:
        logger.error("%s", error)
        return False
    return True


def find_scenes(options: argparse.Namespace) -> list[Path]:
    """Scene folders, or the photo that is the input.

    Raises:
        SceneInputError: there is no scene, or options for one photo come without it, or it without them.
    """
    photo, masks = options.input, options.masks or options.boxes
    if photo.is_file() and not (masks or options.auto_masks):
        raise SceneInputError(
            f"{photo}: expected masks for this photo; add --masks, --boxes or --auto-masks, or pass a folder"
        )
    if masks and not photo.is_file():
        raise SceneInputError(
            f"{photo}: expected the photo that {masks} belongs to, found no such file; pass it as --input"
        )
    return [photo] if photo.is_file() else find_scene_folders(photo)


def run_scenes(sources: list[Path], options: argparse.Namespace) -> list[SceneReport]:
    """Make every scene that is not there yet, under progress bars for scenes and sampling steps."""
    batch = options.batch
    reports = {source: SceneReport(scene_id_of(source)) for source in sources}
    todo = [source for source in sources if is_pending(source, batch)]
    if todo:
        check_output(batch.output)
    if waiting := [source for source in todo if needs_masks(source, batch)]:
        failed = find_missing_masks(waiting, options, is_all=waiting == todo)
        reports |= failed
        todo = [source for source in todo if source not in failed]
    if todo:
        pipeline = SceneGenPipeline.from_pretrained(
            options.checkpoint,
            options.device,
            getattr(torch, options.dtype) if options.dtype else None,
            revision=options.revision,
            offload=options.low_vram,
        )
        check_checkpoint(pipeline.config, options)
        with logging_redirect_tqdm():
            for source in tqdm(todo, unit="scene"):
                with tqdm(desc=scene_id_of(source), leave=False) as bar:
                    reports[source] = make_scene(pipeline, source, batch, partial(show_progress, bar))
    return list(reports.values())


def check_checkpoint(config: PipelineConfig, options: argparse.Namespace) -> None:
    """Refuse options that have no effect with a checkpoint.

    Raises:
        CheckpointError: the checkpoint has no appearance stage, or takes its textures from the mesh.
    """
    if not config.has_appearance and (wanted := appearance_flags(options)):
        raise CheckpointError(
            f"{options.checkpoint}: {', '.join(wanted)}: needs an appearance stage, the checkpoint has none; "
            "leave it out"
        )
    if options.texture_mode and (options.texture or config.default_texture_source) == "mesh":
        raise CheckpointError(
            f"{options.checkpoint}: --texture-mode: is for the colours of Gaussians, and the checkpoint "
            "takes those of the mesh; give --texture gaussian or leave it out"
        )


def find_missing_masks(
    sources: list[Path], options: argparse.Namespace, is_all: bool
) -> dict[Path, SceneReport]:
    """Find the masks of scenes without, and return the reports of those where that failed.

    Raises:
        CheckpointError: the segmenter cannot be had, and there is no other scene to go on with.
    """
    load = partial(Segmenter.from_pretrained, options.sam2, options.device)
    try:
        with logging_redirect_tqdm():
            return segment_scenes(tqdm(sources, desc="masks", unit="scene"), options.batch, load)
    except CheckpointError as error:
        if is_all:
            raise
        logger.error("%s", error)
        return {source: SceneReport(scene_id_of(source), "failed", str(error)) for source in sources}


def show_progress(bar: tqdm, progress: Progress) -> None:
    """Move a bar to where a stage of the scene is; each stage begins anew."""
    bar.set_postfix_str(progress.stage, refresh=False)
    bar.total = progress.total
    bar.update(progress.done - bar.n)


if __name__ == "__main__":
    sys.exit(main())
