"""Photos, models and shards of a data root as work of an engine: what the steps of scenes share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_toolkits.stored_root import deliver_tables
from scenegen.batch.engines.tasks import Task, TaskFunction, TaskRecord, TaskResult
from scenegen.cli.engine_options import run_tasks
from scenegen.datasets.model_boxes import CACHE, MODELS_FOLDER, OBJ_NAME, ModelBoxes, ModelFileError
from scenegen.stores.mirrored import full_disk
from scenegen.stores.root_files import RootFiles
from scenegen.stores.store import DISK_ERRORS
from scenegen.stores.urls import StoreError, StoreUrl

_KEPT_EVERY = 500  # models whose boxes are measured between two writes

BOXES = CACHE.as_posix()
"""The file of `ModelBoxes`, which the steps of scenes read and write themselves."""

PhotoFunction = Callable[[RootFiles, Any], TaskResult]
"""Files of the root and the settings of a task -> what came of it."""


@dataclass(frozen=True)
class PhotoWork:
    """What a step does with every photo, model or shard; can be pickled.

    Attributes:
        root: data root, or the mirror of ``url``.
        url: of a root in a store.
        load: loads what all tasks need, and gives the function that is called for each of them.
        device: that it uses.
    """

    root: Path
    url: StoreUrl | None
    load: Callable[[], PhotoFunction]
    device: str = "cpu"

    def open(self) -> TaskFunction:
        """Load what all tasks need; what that raises ends the step."""
        files, function = RootFiles(self.root, self.url), self.load()

        def run(task: Task) -> TaskResult:
            try:
                return function(files, task.settings)
            except StoreError as error:  # of this task's files; the next one may be luckier
                return TaskResult(error=files.told(f"{task.id}: {error}"))
            except OSError as error:
                if self.url is not None and error.errno in DISK_ERRORS:
                    raise full_disk(error) from error
                raise

        return run


def run_photos(
    work: PhotoWork, tasks: Iterable[Task], options: argparse.Namespace, name: str, what: str, total: int
) -> Iterator[TaskRecord]:
    """Do a step of scenes where the command line says.

    Args:
        work: of the step.
        tasks: any number.
        options: with ``runs_on`` and ``output_dir``, see `dataset_toolkits.asset_work.check_engine`.
        name: of the journal, without its ending.
        what: a word for a task.
        total: number of tasks.

    Raises:
        EngineError: there is nowhere to do it.
    """
    journal = options.output_dir / f"{name}.jsonl"
    return run_tasks(options.runs_on, tasks, work, options, journal, what=what, total=total)


def measured_boxes(models: Iterable[str], options: argparse.Namespace, name: str) -> ModelBoxes:
    """The boxes of models, of which those are measured that no earlier run has, and kept for later ones.

    Args:
        models: their names; each is measured once.
        options: see `run_photos`, with ``root_url``.
        name: of the journal.

    Raises:
        EngineError, StoreError, OSError: see `run_photos` and `RootFiles`.
    """
    root, url = options.output_dir, options.root_url
    stamps = None
    if url is not None:
        ending = f"/{OBJ_NAME}"
        states = RootFiles(root, url).states(MODELS_FOLDER.as_posix()).items()
        stamps = {Path(file).parent.name: state for file, state in states if file.endswith(ending)}
    boxes = ModelBoxes(root, stamps=stamps)
    lacking = [model for model in dict.fromkeys(models) if boxes.lacks(model)]
    if not lacking:
        return boxes
    work = PhotoWork(root, url, _load_measuring)
    tasks = (Task(model, model) for model in lacking)
    records = run_photos(work, tasks, options, name, "model", len(lacking))
    for number, record in enumerate(records, start=1):
        boxes.add(record.id, record.value or ModelFileError(record.error or f"{record.id}: not measured"))
        if number % _KEPT_EVERY == 0:
            boxes.save()
            deliver_tables(root)
    boxes.save()
    return boxes


def _load_measuring() -> PhotoFunction:
    return _measure


def _measure(files: RootFiles, model: str) -> TaskResult:
    """The box of a model, or why there is none: a fault of every photo that has it, and none of the step."""
    boxes = ModelBoxes(files.root, known={})
    with files.here([(MODELS_FOLDER / model / OBJ_NAME).as_posix()]):
        try:
            return TaskResult(boxes.box(model))
        except ModelFileError as error:
            return TaskResult(ModelFileError(files.told(str(error))))
