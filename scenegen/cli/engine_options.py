"""Options of commands over many scenes or assets: where the work is done; and following it."""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from safe_files.limits import MAX_WORKERS
from scenegen.batch.engines.journal import Journal
from scenegen.batch.engines.local import LocalEngine
from scenegen.batch.engines.ray_cluster import RayEngine
from scenegen.batch.engines.tasks import Engine, Task, TaskRecord, Work, WorkerNeeds
from scenegen.cli.types import positive_float, positive_int, up_to, whole_number
from scenegen.inputs.image_files import one_line

worker_count = up_to(MAX_WORKERS)
LOCAL, RAY = ENGINES = ("local", "ray")
JOURNAL_NAME = "tasks.jsonl"

logger = logging.getLogger(__name__)


class ChooseEngine(argparse.Action):
    """Takes ``--engine`` for what draws and for where the work is done, which have names of their own."""

    def __call__(self, parser, namespace, value, option_string=None) -> None:  # noqa: ANN001 - as argparse has it
        setattr(namespace, "engine" if value in ENGINES else self.dest, value)


def add_engine_arguments(
    parser: argparse.ArgumentParser, workers: int = 1, *names: str, with_engine: bool = True
) -> None:
    """Declare where the work is done.

    Args:
        parser: of a command.
        workers: of the local engine by default.
        names: further flags that mean the same as ``--workers``.
        with_engine: whether ``--engine`` is declared here; where it is also what draws, `ChooseEngine` is.
    """
    group = parser.add_argument_group("where the work is done")
    if with_engine:
        group.add_argument(
            "--engine",
            choices=ENGINES,
            default=LOCAL,
            help="processes of this machine, or the actors of a Ray cluster (%(default)s)",
        )
    else:
        parser.set_defaults(engine=LOCAL)
    group.add_argument(
        "--address", help="of the Ray cluster, HOST:PORT; default: $RAY_ADDRESS, or that of this machine"
    )
    group.add_argument(
        "--workers",
        *names,
        type=worker_count,
        metavar="N",
        help=f"scenes or assets at a time; default: {workers}, on Ray what there is room for",
    )
    group.add_argument(
        "--gpus-per-worker", type=positive_float, metavar="SHARE", help="for example 0.25 or 1; default: none"
    )
    group.add_argument(
        "--cpus-per-worker", type=positive_int, metavar="N", help="threads of each; on Ray 1 by default"
    )
    group.add_argument(
        "--max-retries",
        type=whole_number,
        default=WorkerNeeds().max_retries,
        metavar="N",
        help="how many more workers get a task whose worker died (%(default)s)",
    )
    group.add_argument("--max-failures", type=whole_number, metavar="N", help="stop when more failed")
    group.add_argument(
        "--task-log",
        type=Path,
        metavar="FILE",
        help="one JSON line for each task: host, device, seconds, error; default: on Ray, and where one is "
        f"there, {JOURNAL_NAME} or <step>_<rank>.jsonl beside the results",
    )
    parser.set_defaults(default_workers=workers)


def is_in_this_process(options: argparse.Namespace) -> bool:
    """Whether the work is done here, one task after the other."""
    return options.engine == LOCAL and (options.workers or options.default_workers) == 1


def engine_of(options: argparse.Namespace, *, is_apart: bool = False, in_threads: bool = False) -> Engine:
    """The engine that a command line asks for.

    Where workers on Ray get a GPU, the device of the work is theirs: the machine that asks need not have any.

    Args:
        options: of `add_engine_arguments`.
        is_apart, in_threads: see `LocalEngine`.

    Raises:
        ValueError: options contradict each other.
    """
    if options.engine == LOCAL and options.address is not None:
        raise ValueError("--address: of a Ray cluster; add --engine ray or leave it out")
    needs = WorkerNeeds(options.cpus_per_worker, options.gpus_per_worker or 0.0, options.max_retries)
    if options.engine == RAY:
        if needs.gpus and hasattr(options, "device"):
            options.device = torch.device("cuda")
        return RayEngine(options.workers, needs, options.address)
    workers = options.workers or options.default_workers
    return LocalEngine(workers, needs, is_apart=is_apart, in_threads=in_threads)


def run_tasks(
    engine: Engine,
    tasks: Iterable[Task],
    work: Work,
    options: argparse.Namespace,
    journal: Path | None,
    *,
    what: str,
    total: int | None = None,
) -> Iterator[TaskRecord]:
    """Work on tasks under a progress bar, log what was logged elsewhere, and keep a journal if one is wanted.

    Args:
        engine: of `engine_of`.
        tasks: any number.
        work: what is done with each.
        options: of `add_engine_arguments`.
        journal: where the journal is by default; None where nothing is kept. Two runs on Ray cannot have the
            same one, nor can a local run that finds it there.
        what: a word for a task.
        total: number of tasks, where it is known.

    Yields:
        Records as the tasks end; none after more than ``--max-failures`` failed.

    Raises:
        As `scenegen.batch.engines.tasks.Engine.run`, and `Journal`.
    """
    is_kept = journal is not None and (options.engine == RAY or journal.is_file())
    path = options.task_log or (journal if is_kept else None)
    counts: Counter[str] = Counter()
    with Journal(path) if path else nullcontext() as kept, logging_redirect_tqdm():
        bar = tqdm(engine.run(tasks, work), total=total, unit=what, disable=None)
        for record in bar:
            counts[record.status] += 1
            bar.set_postfix(counts, refresh=False)
            for name, level, text in record.messages:
                logging.getLogger(name).log(level, "%s", text)
            if record.error is not None and not record.host:  # its worker left no message
                logger.error("%s", record.error)
            if kept is not None:
                kept.add(record)
            _tell(record, counts.total(), total)
            yield record
            if options.max_failures is not None and counts["failed"] > options.max_failures:
                logger.error("more than %d %ss failed (--max-failures); stopped", options.max_failures, what)
                return


def _tell(record: TaskRecord, number: int, total: int | None) -> None:
    """One line for a task in place of a progress bar, where stderr is no terminal."""
    if not sys.stderr.isatty():
        of = f" of {total}" if total is not None else ""
        logger.info("%d%s: %s %s, %.1f s", number, of, one_line(record.id), record.status, record.seconds)
