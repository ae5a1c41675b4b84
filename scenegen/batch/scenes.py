"""Many scenes through one pipeline: a scene that fails is reported and the others go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from scenegen.batch.finished import origin_in_batch, replacement_line
from scenegen.batch.options import BatchOptions
from scenegen.batch.origin import ORIGIN_KEY
from scenegen.confidence.calibration import doubt, doubts_line
from scenegen.export.data_root import write_root_scene
from scenegen.export.frames import in_frame_of
from scenegen.export.registry import representation_requests
from scenegen.export.scene_files import ExportError, write_scene
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import InputPhoto, InputScene
from scenegen.inputs.scene_folder import read_layout
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.progress import OnProgress
from scenegen.pipelines.result import SceneResult
from scenegen.pipelines.settings import DECODER_ROLES
from scenegen.segmentation import Segmenter
from scenegen.segmentation.masks import Detect, write_found_labels
from trellis_modules.checkpoint import CheckpointError

logger = logging.getLogger(__name__)


@dataclass
class SceneReport:
    """What became of one scene.

    Attributes:
        scene_id: name of its folder or photo.
        status: "skipped" (it was finished already), "done" or "failed".
        error: one line, for failed scenes.
        seconds: by stage, for scenes that were made.
        peak_gib: most memory in use; see `SceneResult`.
        problems: object id -> one line, for objects that could not be made as they should.
        objects: number of objects, of scenes that were made.
        doubts: one line about objects that may be wrong; None where none is known to be.
        doubtful: how many they are.
    """

    scene_id: str
    status: str = "skipped"
    error: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    peak_gib: dict[str, float] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)
    objects: int = 0
    doubts: str | None = None
    doubtful: int = 0


def needs_masks(scene: InputScene, options: BatchOptions) -> bool:
    """Whether the masks of a scene have to be found, by `find_masks`, before it can be made."""
    return any(_has_to_be_segmented(photo, options) for photo in scene.photos)


def find_masks(
    segmenter: Segmenter, scene: InputScene, options: BatchOptions, detect: Detect | None = None
) -> SceneReport:
    """Find the masks that a scene lacks, and write them as label images beside the results.

    Args:
        segmenter: finds them.
        scene: its files.
        options: of the batch.
        detect: finds prompts in photos without boxes; None lets the segmenter find whole objects.

    Returns:
        A report; faults are logged as by `make_scene`.
    """
    report = SceneReport(scene.scene_id, status="failed")
    with _faults_in(report, scene.source):
        if scene.fault is not None:
            raise SceneInputError(scene.fault)
        for photo in scene.photos:
            if _has_to_be_segmented(photo, options):
                write_found_labels(segmenter, photo, options.output / scene.scene_id, detect)
        report.status = "done"
    return report


def make_scene(
    pipeline: SceneGenPipeline,
    scene: InputScene,
    options: BatchOptions,
    on_progress: OnProgress | None = None,
    *,
    raised: tuple[type[Exception], ...] = (),
) -> SceneReport:
    """Read, generate and write one scene.

    Args:
        pipeline: makes it.
        scene: its files, as `scenegen.inputs.layout.detect_scene` tells them; `find_masks` has found the
            masks that are missing among them.
        options: of the batch.
        on_progress: called as each stage of the scene goes on.
        raised: errors that are no fault of the scene, and go on to the caller.

    Returns:
        A report; faults of the input, the weights or the disk are logged in one line, others with their
        traceback.
    """
    report = SceneReport(scene.scene_id, status="failed")
    with _faults_in(report, scene.source, raised):
        _run(pipeline, scene, options, report, on_progress)
        report.status = "done"
    return report


def generate(
    pipeline: SceneGenPipeline,
    views: Sequence[SceneImages],
    options: BatchOptions,
    on_progress: OnProgress | None = None,
) -> SceneResult:
    """Generate one scene from its photos, as all that its formats draw.

    Raises:
        ValueError: a format draws what the checkpoint has no decoder for.
    """
    settings = options.settings
    wanted = {
        request.representation
        for request in representation_requests(options.formats, options.export)
        if request.is_needed or DECODER_ROLES[request.representation] in pipeline.networks.roles
    }
    settings = replace(settings, representations={*settings.representations, *wanted})
    result = pipeline.run(views, settings, on_progress=on_progress)
    made_by = {"model": dict(options.model)} if options.model else {}
    result = replace(result, left_out=dict(views[0].left_out), settings=result.settings | made_by)
    if options.refine:  # loaded for those who ask for it
        from scenegen.refinement.placement import refine_result
        from scenegen.refinement.settings import DEFAULT_SETTINGS

        result = refine_result(result, views[0].masks, replace(DEFAULT_SETTINGS, settle=options.settle))
    if options.room:
        from scenegen.refinement.room import with_room

        result = with_room(result, views[0])
    return result


@contextmanager
def _faults_in(report: SceneReport, source: Path, raised: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Log what goes wrong in a ``with`` block, enter it into the report and go on after the block."""
    try:
        yield
    except raised:
        raise
    except (SceneInputError, ExportError, CheckpointError, OSError) as error:
        report.error = _explained(error, report.scene_id) if isinstance(error, OSError) else str(error)
        logger.error("%s", report.error)  # the text alone: the error would keep alive what its frames hold
    except (ValueError, RuntimeError, MemoryError) as error:  # unforeseen: show the cause, go on
        logger.exception("%s: stopped by an error that is not a fault of the input", source)
        report.error = f"{type(error).__name__}: {error}".partition("\n")[0]


def _explained(error: OSError, scene_id: str) -> str:
    """One line for a disk that refuses."""
    return (
        f"{scene_id}: expected to write the results, the disk refuses ({error}); check the free space and "
        "the permissions, or choose another --output"
    )


def _has_to_be_segmented(photo: InputPhoto, options: BatchOptions) -> bool:
    return photo.form is None and (photo.boxes is not None or options.auto_masks)


def _read(scene: InputScene, options: BatchOptions) -> tuple[SceneImages, ...]:
    """Read a scene, with the masks that were found for it."""
    found = options.output / scene.scene_id
    photos = tuple(
        photo.with_found_labels(found) if _has_to_be_segmented(photo, options) else photo
        for photo in scene.photos
    )
    return read_layout(replace(scene, photos=photos), options.reading)


def _run(
    pipeline: SceneGenPipeline,
    scene: InputScene,
    options: BatchOptions,
    report: SceneReport,
    on_progress: OnProgress | None,
) -> None:
    """Make the scene and enter times, memory and problems into the report."""
    start = time.perf_counter()
    origin = origin_in_batch(scene, options)
    if origin is not None and (line := replacement_line(scene, origin, options)):
        logger.warning("%s", line)
    views = _read(scene, options)
    read_seconds = time.perf_counter() - start
    result = generate(pipeline, views, options, on_progress)
    if options.room and not result.room:
        logger.warning("%s: no room: %s", scene.scene_id, result.settings["room"]["skipped"])
    start = time.perf_counter()
    if options.frame == "first":
        result = in_frame_of(result, min(item.object_id for item in result.objects))
    notes = {} if origin is None else {ORIGIN_KEY: origin.record()}
    if options.is_root:
        write_root_scene(result, options.output, scene.scene_id, options.export, notes=notes)
    else:
        folder = options.output / scene.scene_id
        write_scene(result, folder, options.formats, options.export, on_progress=on_progress, notes=notes)
    report.objects = len(result.objects)
    report.seconds = {"read": read_seconds, **result.timings, "write": time.perf_counter() - start}
    report.peak_gib = {stage: peak / 2**30 for stage, peak in result.peak_bytes.items()}
    made = {item.object_id: item.problem for item in result.objects if item.problem is not None}
    report.problems = {**result.left_out, **made}
    chances = {item.node: item.confidence for item in result.objects}
    report.doubts = doubts_line(chances)
    report.doubtful = sum(doubt(node, each) is not None for node, each in chances.items())
