"""What an engine costs: time and memory of tasks that do nothing, and scenes a second by numbers of workers.

    python benchmarks/batch_scaling.py overhead --tasks 10000 --engine ray
    python benchmarks/batch_scaling.py scenes --input DIR --sizes 1 2 --cpus-per-worker 1 -- --no-appearance
    python benchmarks/batch_scaling.py scenes --input DIR --sizes 1 2 --gpus-per-worker 1 --cpus-per-worker 8

The second and third make the scenes of a folder with each number of workers, by ``inference.py`` in a process
and with a folder of its own. ``--count`` makes as many scenes of those that are there, under several names.
A line for each run goes to ``<output>/scaling.jsonl``; runs that are there are skipped, so that it goes on
where it was stopped. ``--repeats`` measures each number several times, in turns with the others, and
``--seconds`` ends a run so long after its first scene.

A rate counts what is made between the time when every worker has ended its first scene and the time when the
first worker finds nothing more to do, so that neither loading nor the last scenes count; of a scene that lies
on such a time, the part within. Arguments behind ``--`` go to ``inference.py``. Where a worker has
``--cpus-per-worker`` threads, one alone has them, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenegen.batch.engines.local import THREAD_VARIABLES
from scenegen.batch.engines.tasks import EngineError, Task, TaskFunction, TaskResult
from scenegen.cli.engine_options import add_engine_arguments, engine_of
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_float, positive_int
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import find_scene_folders

ROOT = Path(__file__).resolve().parents[1]
LOG, RESULTS = "tasks.jsonl", "scaling.jsonl"
_PAUSE = 0.2  # seconds between two looks at a batch


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


def steady_rate(lines: Sequence[dict[str, Any]], workers: int) -> float:
    """Scenes a second while all workers have something to do; see the head of this file.

    Args:
        lines: of a task log, with ``status``, ``seconds`` and the ``time`` of the end.
        workers: that had them.

    Raises:
        ValueError: there are too few scenes.
    """
    done = [line for line in lines if line["status"] == "done"]
    if len(done) < 4 * workers:
        raise ValueError(f"expected at least {4 * workers} scenes for {workers} workers, got {len(done)}")
    ends = sorted(line["time"] for line in done)
    first, last = ends[workers - 1], ends[-workers]
    within = (min(line["time"], last) - max(line["time"] - line["seconds"], first) for line in done)
    parts = [max(0.0, seconds) / line["seconds"] for seconds, line in zip(within, done, strict=True)]
    return sum(parts) / (last - first)


def scenes(options: argparse.Namespace) -> None:
    """Measure every run that is not measured yet, and print all.

    Raises:
        ValueError: a batch failed, or there are too few scenes.
        SceneInputError: there is no scene at all.
    """
    options.output.mkdir(parents=True, exist_ok=True)
    inputs = options.input if options.count is None else repeated(options)
    for repeat, size in itertools.product(range(options.repeats), options.sizes):
        if any((row["workers"], row["repeat"]) == (size, repeat) for row in known(options)):
            continue
        row = {"workers": size, "repeat": repeat, **measure(options, inputs, size)}
        with (options.output / RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    print("\n".join(table(known(options))))


def repeated(options: argparse.Namespace) -> Path:
    """A folder with ``--count`` scenes, see `repeat_scenes`."""
    folder = options.output / "scenes"
    repeat_scenes(options.input, folder, options.count)
    return folder


def repeat_scenes(source: Path, folder: Path, count: int) -> list[Path]:
    """Make so many scenes of those in a folder, one after the other, as links to their files; the scenes.

    Raises:
        SceneInputError: there is no scene.
    """
    scenes = [folder / f"{number:04d}" for number in range(count)]
    for scene, original in zip(scenes, itertools.cycle(find_scene_folders(source)), strict=False):
        if not scene.is_dir():
            shutil.copytree(original, scene, copy_function=_link)
    return scenes


def _link(source: str, target: str) -> None:
    """A second name of a file, or a copy where the disk is another."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def known(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The runs that were measured."""
    path = options.output / RESULTS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def measure(options: argparse.Namespace, inputs: Path, size: int) -> dict[str, float]:
    """Make the scenes with so many workers.

    Raises:
        ValueError: the batch failed, or there are too few scenes.
    """
    output = options.output / str(size)
    log = output / LOG
    log.unlink(missing_ok=True)
    command = [sys.executable, str(ROOT / "inference.py"), "--input", str(inputs), "--output", str(output)]
    command += ["--overwrite", "--engine", options.engine, "--workers", str(size), "--task-log", str(log)]
    for flag in ("address", "gpus_per_worker", "cpus_per_worker"):
        if (value := getattr(options, flag)) is not None:
            command += [f"--{flag.replace('_', '-')}", str(value)]
    environment = dict(os.environ)
    if options.cpus_per_worker is not None:
        environment |= dict.fromkeys(THREAD_VARIABLES, str(options.cpus_per_worker))
    if _status([*command, *options.further], environment, log, options.seconds):
        raise ValueError(f"{size} workers: the batch failed, see above")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    seconds = statistics.mean(line["seconds"] for line in lines)
    rate = steady_rate(lines, size)
    return {"scenes_per_s": round(rate, 4), "seconds": round(seconds, 3), "scenes": len(lines)}


def _status(command: Sequence[str], environment: dict[str, str], log: Path, seconds: float | None) -> int:
    """The exit status of a batch; 0 where it was ended because its time was over."""
    end = None
    with subprocess.Popen(command, env=environment, stdout=sys.stderr) as process:
        while (status := process.poll()) is None:
            time.sleep(_PAUSE)
            if end is None and seconds is not None and log.is_file() and log.stat().st_size:
                end = time.monotonic() + seconds
            if end is not None and time.monotonic() > end:
                process.terminate()
                return 0
    return status


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Medians of the runs with each number of workers, against the least number."""
    yield "| workers | scenes a second | efficiency | seconds of a scene | runs |\n|---:|---:|---:|---:|---:|"
    alone = None
    for size in sorted({row["workers"] for row in rows}):
        own = [row for row in rows if row["workers"] == size]
        rate = statistics.median(row["scenes_per_s"] for row in own)
        alone = alone or rate / size
        seconds = statistics.median(row["seconds"] for row in own)
        yield f"| {size} | {rate:.3f} | {rate / size / alone:.2f} | {seconds:.2f} | {len(own)} |"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument(
        "what", nargs="?", choices=("overhead", "scenes"), default="overhead", help="(%(default)s)"
    )
    parser.add_argument("--tasks", type=positive_int, default=10_000, help="overhead: how many (%(default)s)")
    parser.add_argument("--input", type=Path, help="scenes: folder of scenes")
    parser.add_argument("--output", type=Path, default="outputs/scaling", help="scenes: (%(default)s)")
    parser.add_argument("--count", type=positive_int, help="scenes: how many, of those of --input in turns")
    parser.add_argument("--repeats", type=positive_int, default=1, help="scenes: runs of each (%(default)s)")
    parser.add_argument(
        "--sizes", type=positive_int, nargs="+", default=[1, 2], help="scenes: numbers of workers"
    )
    parser.add_argument("--seconds", type=positive_float, help="scenes: of each run, from its first scene on")
    add_engine_arguments(parser, 2)
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    options = parser.parse_args(given[:end])
    options.further = given[end + 1 :]
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
    except (EngineError, SceneInputError, ValueError) as error:
        print(f"batch_scaling.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
