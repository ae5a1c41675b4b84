"""Many scene folders through one pipeline: a scene that fails is reported and the others go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scenegen.pipelines.export import FORMATS, ExportError, is_complete, write_scene
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.scene_folder import SceneInputError, read_scene

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchOptions:
    """Where results go and how they are made.

    Attributes:
        output: each scene gets the folder ``<output>/<scene_id>``.
        formats: some of `FORMATS`.
        seed: of all noise; the same for every scene, so that a scene does not depend on its batch.
        steps: sampling steps; None takes the checkpoint's setting.
        overwrite: make finished scenes again.
        scene_attention: let the objects of a scene see each other; without it only for comparisons.
    """

    output: Path
    formats: Sequence[str] = FORMATS
    seed: int = 42
    steps: int | None = None
    overwrite: bool = False
    scene_attention: bool = True


@dataclass
class SceneReport:
    """What became of one scene.

    Attributes:
        scene_id: name of its folder.
        status: "skipped" (it was finished already), "done" or "failed".
        error: one line, for failed scenes.
        seconds: by stage, for scenes that were made.
    """

    scene_id: str
    status: str = "skipped"
    error: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def is_pending(folder: Path, options: BatchOptions) -> bool:
    """Whether a scene folder still has to be made."""
    return options.overwrite or not is_complete(options.output / scene_id(folder), options.formats)


def scene_id(folder: Path) -> str:
    """The name of a scene folder, also when it is given as ``.`` or through a link."""
    return folder.resolve().name


def make_scene(
    pipeline: SceneGenPipeline,
    folder: Path,
    options: BatchOptions,
    on_step: Callable[[int, int], Any] | None = None,
) -> SceneReport:
    """Read, generate and write one scene.

    Args:
        on_step: called with (steps done, steps) after each sampling step.

    Returns:
        A report; faults of the input or of the disk are logged in one line, others with their traceback.
    """
    report = SceneReport(scene_id(folder), status="failed")
    try:
        report.seconds = _run(pipeline, folder, options, on_step)
        report.status = "done"
    except (SceneInputError, ExportError, OSError) as error:
        logger.error("%s", error)
        report.error = str(error)
    except (ValueError, RuntimeError, MemoryError) as error:  # unforeseen: show the cause, go on
        logger.exception("%s: stopped by an error that is not a fault of the input", folder)
        report.error = f"{type(error).__name__}: {error}".partition("\n")[0]
    return report


def _run(
    pipeline: SceneGenPipeline, folder: Path, options: BatchOptions, on_step: Callable[[int, int], Any] | None
) -> dict[str, float]:
    """Seconds of each stage."""
    start = time.perf_counter()
    scene = read_scene(folder)
    read_seconds = time.perf_counter() - start
    result = pipeline.run(
        scene.photo,
        [item.cutout for item in scene.objects],
        [item.mask for item in scene.objects],
        object_ids=[item.object_id for item in scene.objects],
        seed=options.seed,
        steps=options.steps,
        scene_attention=options.scene_attention,
        on_step=on_step,
    )
    start = time.perf_counter()
    write_scene(result, options.output / scene.scene_id, options.formats)
    return {"read": read_seconds, **result.timings, "write": time.perf_counter() - start}
