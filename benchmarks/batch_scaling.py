"""What an engine costs: time and memory of tasks that do nothing, and scenes a second by numbers of workers.

    python benchmarks/batch_scaling.py overhead --tasks 10000 --engine ray
    python benchmarks/batch_scaling.py scenes --input DIR --sizes 1 2 4 8 --engine ray --gpus-per-worker 1

The second one makes the scenes of a folder once for each number of workers, in a folder of its own, and
appends a line for each number to ``<output>/scaling.jsonl``; numbers that are there are skipped, so that it
goes on where it was stopped. Its times are from the end of the first scene of every worker, so that loading
does not count. Arguments behind ``--`` go to ``inference.py``.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scenegen.batch.engines.tasks import EngineError, Task, TaskFunction, TaskResult
from scenegen.cli import infer
from scenegen.cli.engine_options import add_engine_arguments, engine_of
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int

LOG, RESULTS = "tasks.jsonl", "scaling.jsonl"


@dataclass(frozen=True)
class NoWork:
    """Does nothing with every task."""

    device: str = "cpu"

    def open(self) -> TaskFunction:
        """Load nothing."""
        return _nothing


def _nothing(task: Task) -> TaskResult:
    return TaskResult()


def overhead(options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds a task, without the start, and how much memory grew here after a tenth of the tasks."""
    tasks = (Task(str(number)) for number in range(options.tasks))
    start, memory, done = 0.0, 0, 0
    for done, _ in enumerate(engine_of(options).run(tasks, NoWork()), start=1):
        if done == 1:
            start = time.perf_counter()
        if done == max(1, options.tasks // 10):
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    return {
        "tasks": done,
        "ms_per_task": round(1000 * seconds / max(1, done - 1), 3),
        "grown_mib": round(grown, 1),
    }


def steady_rate(lines: Sequence[dict], workers: int) -> float:
    """Scenes a second after the first scene of each worker has ended, until the last one.

    Raises:
        ValueError: there are too few scenes.
    """
    ends = sorted(line["time"] for line in lines if line["status"] == "done")
    if len(ends) < 3 * workers:
        raise ValueError(f"expected at least {3 * workers} scenes for {workers} workers, got {len(ends)}")
    return (len(ends) - workers) / (ends[-1] - ends[workers - 1])


def scenes(options: argparse.Namespace) -> None:
    """Measure every number of workers that is not measured yet, and print all.

    Raises:
        ValueError: there are too few scenes.
    """
    path = options.output / RESULTS
    options.output.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    for size in options.sizes:
        if any(line["workers"] == size for line in known):
            continue
        output = options.output / str(size)
        given = [
            "--input",
            str(options.input),
            "--output",
            str(output),
            "--engine",
            options.engine,
            "--overwrite",
        ]
        given += ["--workers", str(size), "--task-log", str(output / LOG), *options.further]
        for flag in ("address", "gpus_per_worker", "cpus_per_worker"):
            if (value := getattr(options, flag)) is not None:
                given += [f"--{flag.replace('_', '-')}", str(value)]
        (output / LOG).unlink(missing_ok=True)
        if infer.main(given, "inference.py") != 0:
            raise ValueError(f"{size} workers: the batch failed, see above")
        lines = [json.loads(line) for line in (output / LOG).read_text().splitlines()]
        rate = steady_rate(lines, size)
        known.append({"workers": size, "scenes_per_s": round(rate, 4), "scenes": len(lines)})
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(known[-1]) + "\n")
    least = min(known, key=lambda line: line["workers"])
    alone = least["scenes_per_s"] / least["workers"]
    print("| workers | scenes a second | efficiency |\n|---:|---:|---:|")
    for line in sorted(known, key=lambda line: line["workers"]):
        share = line["scenes_per_s"] / line["workers"] / alone
        print(f"| {line['workers']} | {line['scenes_per_s']:.3f} | {share:.2f} |")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument(
        "what", nargs="?", choices=("overhead", "scenes"), default="overhead", help="(%(default)s)"
    )
    parser.add_argument("--tasks", type=positive_int, default=10_000, help="overhead: how many (%(default)s)")
    parser.add_argument("--input", type=Path, help="scenes: folder of scenes")
    parser.add_argument("--output", type=Path, default="outputs/scaling", help="scenes: (%(default)s)")
    parser.add_argument(
        "--sizes", type=positive_int, nargs="+", default=[1, 2], help="scenes: numbers of workers"
    )
    add_engine_arguments(parser, 2)
    parser.add_argument("further", nargs="*", help="scenes: behind --, arguments of inference.py")
    options = parser.parse_args(arguments)
    if options.what == "scenes" and options.input is None:
        parser.error("--input: expected the folder of scenes")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and tell; 1 when the engine or the scenes cannot be used."""
    options = parse_arguments(arguments)
    try:
        if options.what == "overhead":
            print(json.dumps(overhead(options)))
        else:
            scenes(options)
    except (EngineError, ValueError) as error:
        print(f"batch_scaling.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
