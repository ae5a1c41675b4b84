"""Scenes and their masks as work of an engine: what a worker loads, and what it does with each scene."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from safe_files.pictures import pixel_limit
from scenegen.batch.engines.tasks import Task, TaskFunction, TaskResult
from scenegen.batch.finished import is_pending
from scenegen.batch.options import BatchOptions
from scenegen.batch.scenes import SceneReport, find_masks, make_scene, needs_masks
from scenegen.inputs.layout import InputScene, detect_scene
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.progress import OnProgress
from scenegen.segmentation import Segmenter
from scenegen.segmentation.masks import Detect
from trellis_modules.memory import release_memory

logger = logging.getLogger(__name__)

Watch = Callable[[str], AbstractContextManager[OnProgress | None]]
"""Shows the stages of the scene with an id for the length of a block."""


@dataclass(frozen=True)
class ScenePlace:
    """The settings of a task: where a scene is; see `detect_scene`."""

    source: Path
    masks: Path | None = None
    boxes: Path | None = None

    def detect(self) -> InputScene:
        """Look at the files."""
        return detect_scene(self.source, self.masks, self.boxes)


def scene_task(scene: InputScene, masks: Path | None = None, boxes: Path | None = None) -> Task:
    """The task of a scene; the worker looks at its files again."""
    return Task(scene.scene_id, ScenePlace(scene.source, masks, boxes))


@dataclass(frozen=True)
class SceneWork:
    """Making scenes; results are a `SceneReport` each.

    Attributes:
        load: gives the pipeline; its argument says whether networks are loaded for their stage alone.
        options: of the batch.
        device: that the pipeline uses.
        low_vram: whether networks are always loaded for their stage alone; otherwise a scene for which the
            GPU has too little memory is tried so once.
        max_pixels: of pictures.
        watch: shows the stages of a scene; None in processes whose terminal is not seen.
    """

    load: Callable[[bool], SceneGenPipeline]
    options: BatchOptions
    device: str
    low_vram: bool
    max_pixels: int
    watch: Watch | None = None

    def open(self) -> TaskFunction:
        """Load the pipeline.

        Raises:
            CheckpointError: weights are missing or damaged, or an option does not suit them.
        """
        return _SceneMaker(self)


class _SceneMaker:
    """Makes one scene after the other with a pipeline that stays loaded."""

    def __init__(self, work: SceneWork) -> None:
        self._work = work
        self._pipeline: SceneGenPipeline | None = work.load(work.low_vram)

    def __call__(self, task: Task) -> TaskResult:
        scene = task.settings.detect()
        if not is_pending(
            scene, self._work.options
        ):  # another run has made it, or the caller could not see it
            return TaskResult(SceneReport(scene.scene_id), is_skipped=True)
        try:
            report = self._make(scene, () if self._work.low_vram else (torch.OutOfMemoryError,))
        except torch.OutOfMemoryError:
            report = None
        if report is None:  # outside of the handler, whose frames hold what filled the memory
            report = self._make_in_parts(scene)
        return TaskResult(report, report.error)

    def _make(self, scene: InputScene, raised: tuple[type[Exception], ...]) -> SceneReport:
        watched = nullcontext() if self._work.watch is None else self._work.watch(scene.scene_id)
        with pixel_limit(self._work.max_pixels), watched as on_progress:
            if self._pipeline is None:
                self._pipeline = self._work.load(self._work.low_vram)
            return make_scene(self._pipeline, scene, self._work.options, on_progress, raised=raised)

    def _make_in_parts(self, scene: InputScene) -> SceneReport:
        """Make a scene with one network at a time on the GPU; the next scene is made as usual again."""
        logger.warning("%s: too little GPU memory; tried once more as with --low-vram", scene.scene_id)
        self._forget()
        self._pipeline = self._work.load(True)
        report = self._make(scene, ())
        self._forget()
        return report

    def _forget(self) -> None:
        self._pipeline = None
        release_memory()


@dataclass(frozen=True)
class MaskWork:
    """Finding the masks of scenes; results are a `SceneReport` each.

    Attributes:
        load: gives the segmenter.
        options: of the batch.
        device: that the segmenter uses.
        max_pixels: of pictures.
        load_detector: gives what finds prompts in photos without boxes; None lets the segmenter find whole
            objects.
        is_wanted: whether a scene lacks masks that can be found.
    """

    load: Callable[[], Segmenter]
    options: BatchOptions
    device: str
    max_pixels: int
    load_detector: Callable[[], Detect | None] | None = None
    is_wanted: Callable[[InputScene, BatchOptions], bool] = needs_masks

    def open(self) -> TaskFunction:
        """Load the segmenter.

        Raises:
            CheckpointError: it cannot be had.
        """
        segmenter = self.load()
        detect = None if self.load_detector is None else self.load_detector()

        def find(task: Task) -> TaskResult:
            scene = task.settings.detect()
            if not self.is_wanted(scene, self.options):
                return TaskResult(SceneReport(scene.scene_id), is_skipped=True)
            with pixel_limit(self.max_pixels):
                report = find_masks(segmenter, scene, self.options, detect)
            return TaskResult(report, report.error)

        return find
