"""Assets as work of an engine: a step says what it loads and does, and this records what came of each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from dataset_toolkits.steps import write_records
from dataset_toolkits.subsets.instances import Outcome, attempt
from scenegen.batch.engines.tasks import Task, TaskFunction, TaskResult
from scenegen.cli.engine_options import engine_of, run_tasks
from scenegen.cli.parser import CommandParser
from scenegen.datasets.metadata import AssetRow
from scenegen.stores.mirrored import MirroredWork

AssetFunction = Callable[[AssetRow], Mapping[str, Any]]
"""An asset -> the fields of its record; raises one of `dataset_toolkits.subsets.instances.OBJECT_ERRORS`."""

MODEL_FOLDER = "<model>"
"""Stands among the inputs of a step for the folder of the asset's model, with its materials and textures."""


@dataclass(frozen=True)
class AssetStep:
    """What a step does with every asset; can be pickled.

    Attributes:
        kind: of its records.
        load: loads what all assets need, and gives the function that is called for each of them.
        inputs: names of what is read of an asset, below the data root, with ``{}`` for its key.
        outputs: names of what is written, likewise.
        device: that the function uses.
    """

    kind: str
    load: Callable[[], AssetFunction]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    device: str = "cpu"

    def open(self) -> TaskFunction:
        """Load what all assets need; what that raises ends the step."""
        function = self.load()

        def run(task: Task) -> TaskResult:
            outcome = attempt(task.id, partial(function, task.settings))
            return TaskResult(outcome, outcome.error or None)

        return run

    def task(self, row: AssetRow) -> Task:
        """The task of an asset; its model is an input where the step reads it."""
        model = PurePosixPath(row.local_path).parent.as_posix()
        inputs = tuple(model if name == MODEL_FOLDER else name.format(row.sha256) for name in self.inputs)
        return Task(row.sha256, row, inputs, tuple(name.format(row.sha256) for name in self.outputs))


def check_engine(
    parser: CommandParser, options: argparse.Namespace, *, in_threads: bool = False
) -> argparse.Namespace:
    """Enter the engine as ``runs_on``, or refuse options of it that contradict each other.

    Args:
        parser, options: of the step.
        in_threads: see `scenegen.batch.engines.local.LocalEngine`.
    """
    try:
        options.runs_on = engine_of(options, in_threads=in_threads)
    except ValueError as error:
        parser.error(str(error))
    return options


def run_assets(step: AssetStep, rows: Sequence[AssetRow], options: argparse.Namespace) -> int:
    """Do a step for assets, where the command line says, and record what came of each.

    Returns:
        The exit status, see `write_records`.

    Raises:
        EngineError: there is nowhere to do it.
        OSError: the disk is full or cannot be written to.
    """
    work = step if options.root_url is None else MirroredWork(step, options.root_url, options.root_url, True)
    records = run_tasks(
        options.runs_on,
        map(step.task, rows),
        work,
        options,
        options.output_dir / f"{step.kind}_{options.rank}.jsonl",
        what="asset",
        total=len(rows),
    )
    outcomes = (record.value or Outcome(record.id, error=record.error or "") for record in records)
    return write_records(step.kind, rows, outcomes, options)
