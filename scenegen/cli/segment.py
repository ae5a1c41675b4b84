"""Find the objects of photos and write their masks as label images.

    scenegen segment --input lounge.jpg                       # everything that looks like a whole object
    scenegen segment --input lounge.jpg --boxes boxes.json    # one object in each box
    scenegen segment --input photos                           # scene folders, with a boxes.json or without
    scenegen segment --input lounge.jpg --boxes boxes.json --segmenter grabcut    # without network weights
    scenegen segment --input lounge.jpg --text "chair, red lamp" --detector checkpoints/grounding-dino-tiny

writes <output>/<scene>/labels.png: as large as the photo, black for the background, one grey value for each
object. Where a mask is wrong, correct the image in any paint program, without smoothing, and pass it on:

    scenegen infer --input lounge.jpg --masks outputs/lounge/labels.png

Scenes that have masks beside their photo, or a label image already, are skipped; one of another photo of that
name, or of other boxes, is replaced.

Exit status: 0 every label image is there, 1 a scene failed, 2 nothing could be started.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from safe_files.pictures import pixel_limit
from safe_files.regular import UnreadableFile
from scenegen.batch.engines.tasks import EngineError
from scenegen.batch.options import BatchOptions
from scenegen.batch.scenes import SceneReport
from scenegen.batch.work import MaskWork, scene_task
from scenegen.cli.engine_options import JOURNAL_NAME, LOCAL, add_engine_arguments, engine_of, run_tasks
from scenegen.cli.inference_options import add_pixel_argument
from scenegen.cli.parser import CommandParser
from scenegen.cli.reports import count_statuses, set_up_logging, summary, tell_device, what_to_open
from scenegen.cli.segmenter_options import (
    add_segmenter_arguments,
    check_segmenter_arguments,
    segmenter_of,
)
from scenegen.cli.store_options import path_or_url, use_mirrors
from scenegen.cli.stored_scenes import is_stored, run_stored, tell_stored
from scenegen.cli.types import positive_int
from scenegen.export.scene_files import ExportError, check_output
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import InputPhoto, InputScene, detect_scene, find_scene_folders
from scenegen.inputs.names import scene_id_of
from scenegen.segmentation.masks import Detect, is_of_another_photo
from scenegen.segmentation.text import detect, load_detector
from scenegen.stores.urls import StoreError
from trellis_modules.checkpoint import CheckpointError

logger = logging.getLogger(__name__)


def parse_arguments(arguments: Sequence[str] | None, prog: str | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = CommandParser(__doc__, prog)
    parser.add_argument(
        "--input", type=path_or_url, required=True, help="a photo, or a folder of scenes, also by URL"
    )
    parser.add_argument(
        "--boxes",
        type=Path,
        help="JSON list of [x0, y0, x1, y1] in pixels, also with points, when --input is a photo",
    )
    parser.add_argument(
        "--output", type=path_or_url, default="outputs", help="folder or URL for the results (%(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="make label images again")
    parser.add_argument("--limit", type=positive_int, help="only the first N scenes")
    parser.add_argument(
        "--text", help="names of the objects, separated by commas, for photos without boxes; needs --detector"
    )
    parser.add_argument("--detector", help="Grounding DINO: folder, or owner/name on the model hub")
    add_pixel_argument(parser)
    add_segmenter_arguments(parser)
    add_engine_arguments(parser)
    options = parser.parse_args(arguments)
    use_mirrors(options)
    if options.boxes and not options.input.is_file():
        parser.error(f"--boxes: expected the photo that they belong to as --input, got {options.input}")
    if (options.text is None) != (options.detector is None):
        parser.error("--text, --detector: expected both or neither; names are found by Grounding DINO")
    try:
        check_segmenter_arguments(options)
        options.runs_on = engine_of(options)
    except ValueError as error:
        parser.error(str(error))
    return options


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return its exit status."""
    options = parse_arguments(arguments, prog)
    set_up_logging()
    try:
        if is_stored(options):
            batch = BatchOptions(options.output, overwrite=options.overwrite, auto_masks=True)
            return tell_stored(run_stored(mask_work(batch, options), options, "photo"), options)
        photo = options.input.is_file()
        sources = [options.input] if photo else find_scene_folders(options.input)
        with pixel_limit(options.max_pixels):
            reports = segment(sources[: options.limit], options)
    except (SceneInputError, CheckpointError, ExportError, EngineError, StoreError) as error:
        logger.error("%s", error)
        return 2
    counts = count_statuses(reports)
    print(summary(counts, options.output))
    if line := what_to_open(reports, options.output):
        print(line)
    return 1 if counts["failed"] else 0


def segment(sources: Sequence[Path], options: argparse.Namespace) -> list[SceneReport]:
    """Find the masks of scenes that have none, where the command line says.

    Raises:
        EngineError: that is nowhere.
        CheckpointError: the segmenter cannot be had.
        ExportError: the output folder cannot be written to.
    """
    batch = BatchOptions(options.output, overwrite=options.overwrite, auto_masks=True)
    reports = {scene_id_of(source): SceneReport(scene_id_of(source)) for source in sources}
    scenes = [detect_scene(source, boxes=options.boxes) for source in sources]
    if todo := [scene for scene in scenes if is_pending(scene, batch)]:
        if options.engine == LOCAL:
            tell_device(options.device, "float32")
        check_output(batch.output)
        work = mask_work(batch, options)
        tasks = (scene_task(scene, boxes=options.boxes) for scene in todo)
        for record in run_tasks(
            options.runs_on, tasks, work, options, batch.output / JOURNAL_NAME, what="photo", total=len(todo)
        ):
            reports[record.id] = record.value or SceneReport(record.id, "failed", record.error)
    return list(reports.values())


def mask_work(batch: BatchOptions, options: argparse.Namespace) -> MaskWork:
    """What is done with every scene."""
    return MaskWork(
        partial(segmenter_of, options),
        batch,
        str(options.device),
        options.max_pixels,
        partial(detector_of, options),
        is_pending,
    )


def detector_of(options: argparse.Namespace) -> Detect | None:
    """What finds the objects that the command line names, if it names some.

    Raises:
        CheckpointError: the detector cannot be had.
    """
    if options.text is None:
        return None
    detector = load_detector(options.detector, options.device)
    return partial(detect, texts=options.text.split(","), model=detector)


def is_pending(scene: InputScene, batch: BatchOptions) -> bool:
    """Whether a photo of a scene has no masks, and no label image of it is among the results."""
    if scene.fault is not None:
        return True  # segmenting the scene reports it
    found = batch.output / scene.scene_id
    return any(photo.form is None and _is_to_find(photo, found, batch) for photo in scene.photos)


def _is_to_find(photo: InputPhoto, found: Path, batch: BatchOptions) -> bool:
    labels = photo.found_labels(found)
    if batch.overwrite or not labels.is_file():
        return True
    try:
        is_of_another = is_of_another_photo(photo, found)
    except (OSError, UnreadableFile):
        return True  # segmenting the scene reports it
    if is_of_another:
        logger.warning("%s: is of another photo or other boxes; it is made again", labels)
    return is_of_another
