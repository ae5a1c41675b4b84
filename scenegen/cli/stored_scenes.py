"""Scenes in object stores: which there are, and the work on them with copies on each machine."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from scenegen.batch.engines.tasks import Task, Work
from scenegen.batch.scenes import SceneReport
from scenegen.batch.work import ScenePlace
from scenegen.cli.engine_options import JOURNAL_NAME, run_tasks
from scenegen.cli.reports import summary
from scenegen.inputs.layout import find_scene_folders
from scenegen.stores.mirrored import MirroredWork
from scenegen.stores.store import Store


def is_stored(options: argparse.Namespace) -> bool:
    """Whether inputs or results are in an object store."""
    return options.input_url is not None or options.output_url is not None


def run_stored(work: Work, options: argparse.Namespace, what: str) -> Iterator[SceneReport]:
    """Work on scenes of which workers have copies, each for as long as it takes; report each as it ends.

    Args:
        work: on tasks with a `ScenePlace`; tells finished scenes by itself.
        options: of a command, with ``input_url`` and ``output_url``.
        what: a word for a task.

    Raises:
        StoreError: the list of scenes cannot be had.
    """
    output = options.output
    tasks = (_task(name, options) for name in islice(_names(options), options.limit))
    work = MirroredWork(work, options.input_url, options.output_url)
    try:
        for record in run_tasks(options.runs_on, tasks, work, options, output / JOURNAL_NAME, what=what):
            yield record.value or SceneReport(record.id, "failed", record.error)
    finally:
        if options.output_url is not None and (output / JOURNAL_NAME).is_file():
            Store(options.output_url).deliver(output, JOURNAL_NAME)


def tell_stored(reports: Iterable[SceneReport], options: argparse.Namespace) -> int:
    """Count reports as they come and print the summary; of a million scenes nothing is kept but the counts.

    Returns:
        The exit status.
    """
    as_json = getattr(options, "json", False)
    counts, kept = Counter(dict.fromkeys(("done", "skipped", "failed"), 0)), []
    for report in reports:
        counts[report.status] += 1
        if as_json:
            kept.append(asdict(report))
    if as_json:
        print(json.dumps({**counts, "scenes": kept}, indent=2))
    else:
        print(summary(counts, options.output_url or options.output))
    return 1 if counts["failed"] else 0


def _names(options: argparse.Namespace) -> Iterator[str]:
    """Scene folders below the input, as they are listed."""
    if options.input_url is None:
        yield from (path.name for path in find_scene_folders(options.input))
        return
    for name, is_folder in Store(options.input_url).entries():
        if is_folder and not name.startswith("."):
            yield name


def _task(name: str, options: argparse.Namespace) -> Task:
    is_root = getattr(options, "is_root", False)
    outputs = (f"{name}.json", f"{name}.glb") if is_root else (name,)
    return Task(name, ScenePlace(Path(options.input) / name), (name,), outputs)
