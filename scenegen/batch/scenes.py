"""Many scenes through one pipeline: a scene that fails is reported and the others go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from scenegen.checkpoints.schema import SLAT_GAUSSIAN_ROLE
from scenegen.export.options import ExportOptions
from scenegen.export.registry import DEFAULT_FORMATS
from scenegen.export.scene_files import ExportError, is_complete, write_scene
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.scene_folder import (
    LABELS_NAME,
    PhotoWithoutMasks,
    SceneInput,
    photos_without_masks,
    read_photo,
    read_scene,
    scene_id_of,
)
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.progress import OnProgress
from scenegen.pipelines.result import SceneResult
from scenegen.pipelines.settings import RunSettings
from scenegen.refinement.placement import refine_result
from scenegen.segmentation import Segmenter
from scenegen.segmentation.scenes import find_masks
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.memory import release_memory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchOptions:
    """Where results go and how they are made.

    Attributes:
        output: each scene gets the folder ``<output>/<scene_id>``.
        formats: some of `ALL_FORMATS`.
        settings: how each scene is made; the seed is the same for all, so that a scene does not depend on its
            batch.
        overwrite: make finished scenes again.
        export: how files are written.
        refine: afterwards, push objects out of each other and onto the floor.
        masks, boxes: file with the masks of the photo, or with boxes around its objects, where scenes are
            photos and not folders.
        auto_masks: find the objects of photos that have neither.
    """

    output: Path
    formats: Sequence[str] = DEFAULT_FORMATS
    settings: RunSettings = RunSettings()
    overwrite: bool = False
    export: ExportOptions = ExportOptions()
    refine: bool = False
    masks: Path | None = None
    boxes: Path | None = None
    auto_masks: bool = False


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
    """

    scene_id: str
    status: str = "skipped"
    error: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    peak_gib: dict[str, float] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)


def is_pending(source: Path, options: BatchOptions) -> bool:
    """Whether a scene still has to be made."""
    return options.overwrite or not is_complete(options.output / scene_id_of(source), options.formats)


def needs_masks(source: Path, options: BatchOptions) -> bool:
    """Whether the masks of a scene have to be found, by `segment_scenes`, before it can be made."""
    try:
        return bool(_photos_to_segment(source, options))
    except SceneInputError:
        return False  # reading the scene reports it


def segment_scenes(
    sources: Iterable[Path], options: BatchOptions, load: Callable[[], Segmenter]
) -> dict[Path, SceneReport]:
    """Find the masks of scenes that need them, and write them as label images beside the results.

    The segmenter is freed before this returns, so that it takes no memory from the pipeline.

    Args:
        sources: scenes that need masks.
        options: of the batch.
        load: makes the segmenter.

    Returns:
        Reports of the scenes whose masks were not found.

    Raises:
        CheckpointError: the segmenter cannot be had.
    """
    segmenter = load()
    failed = {}
    for source in sources:
        report = SceneReport(scene_id_of(source), status="failed")
        with _faults_in(report, source):
            for photo in _photos_to_segment(source, options):
                find_masks(segmenter, photo, options.output / report.scene_id)
        if report.error is not None:
            failed[source] = report
    del segmenter
    release_memory()
    return failed


def make_scene(
    pipeline: SceneGenPipeline,
    source: Path,
    options: BatchOptions,
    on_progress: OnProgress | None = None,
) -> SceneReport:
    """Read, generate and write one scene.

    Args:
        pipeline: makes it.
        source: a scene folder; or a photo, where the options give its masks or `segment_scenes` found them.
        options: of the batch.
        on_progress: called as each stage of the scene goes on.

    Returns:
        A report; faults of the input, the weights or the disk are logged in one line, others with their
        traceback.
    """
    report = SceneReport(scene_id_of(source), status="failed")
    with _faults_in(report, source):
        _run(pipeline, source, options, report, on_progress)
        report.status = "done"
    return report


def generate(
    pipeline: SceneGenPipeline,
    scene: SceneInput,
    options: BatchOptions,
    on_progress: OnProgress | None = None,
) -> SceneResult:
    """Generate one scene from what was read."""
    views = [
        SceneImages(
            view.photo,
            [item.cutout for item in view.objects],
            [item.mask for item in view.objects],
            [item.object_id for item in view.objects],
        )
        for view in (scene, *scene.more_views)
    ]
    settings = options.settings
    if "ply" in options.formats and SLAT_GAUSSIAN_ROLE in pipeline.networks.roles:
        settings = replace(settings, representations={*settings.representations, "gaussian"})
    result = pipeline.run(views, settings, on_progress=on_progress)
    return refine_result(result, views[0].masks) if options.refine else result


@contextmanager
def _faults_in(report: SceneReport, source: Path) -> Iterator[None]:
    """Log what goes wrong in a ``with`` block, enter it into the report and go on after the block."""
    try:
        yield
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


def _photos_to_segment(source: Path, options: BatchOptions) -> list[PhotoWithoutMasks]:
    """The photos of a scene whose masks are to be found."""
    if not source.is_file():
        return [photo for photo in photos_without_masks(source) if photo.boxes or options.auto_masks]
    return [] if options.masks else [PhotoWithoutMasks(source, options.boxes)]


def _read(source: Path, options: BatchOptions) -> SceneInput:
    """Read a scene, with the masks that were found for it."""
    found = options.output / scene_id_of(source)
    if options.masks or source.is_file():
        return read_photo(source, options.masks or found / LABELS_NAME)
    return read_scene(source, found if _photos_to_segment(source, options) else None)


def _run(
    pipeline: SceneGenPipeline,
    source: Path,
    options: BatchOptions,
    report: SceneReport,
    on_progress: OnProgress | None,
) -> None:
    """Make the scene and enter times, memory and problems into the report."""
    start = time.perf_counter()
    scene = _read(source, options)
    read_seconds = time.perf_counter() - start
    result = generate(pipeline, scene, options, on_progress)
    start = time.perf_counter()
    folder = options.output / scene.scene_id
    write_scene(result, folder, options.formats, options.export, on_progress=on_progress)
    report.seconds = {"read": read_seconds, **result.timings, "write": time.perf_counter() - start}
    report.peak_gib = {stage: peak / 2**30 for stage, peak in result.peak_bytes.items()}
    report.problems = {item.object_id: item.problem for item in result.objects if item.problem is not None}
