"""How long a queue of scenes or assets becomes, and how idle its workers are, for given workers and arrivals.

    python benchmarks/queue_simulator.py --task-log outputs/tasks.jsonl --per-hour 400 --workers cpu=8
    python benchmarks/queue_simulator.py --seconds 25.8 --per-hour 500 --workers h200=4 old=2:0.4 --hours 24

Tasks come at random at a mean rate and take seconds drawn from those that a task log measured, divided by the
speed of the worker that is free first, or the fastest of several. Prints a line for each kind of worker, and
with ``--svg`` draws the queue over time. A run with the same seed gives the same numbers.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_float, whole_number

_WIDTH, _HEIGHT, _MARGIN = 720, 240, 48  # of the drawing, in pixels
_KIND = re.compile(r"(\w+)=(\d+)(?::(\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class WorkerKind:
    """So many workers of one speed; 1 is that of the machine that measured the seconds."""

    name: str
    count: int
    speed: float


@dataclass
class Simulation:
    """What a simulated run shows.

    Attributes:
        waits: seconds that each task waited.
        lengths: time in seconds, and tasks that wait from then on.
        busy: seconds of work, by kind of worker.
        end: seconds until the last task ended.
    """

    waits: list[float] = field(default_factory=list)
    lengths: list[tuple[float, int]] = field(default_factory=list)
    busy: dict[str, float] = field(default_factory=dict)
    end: float = 0.0


def worker_kind(text: str) -> WorkerKind:
    """``NAME=COUNT`` or ``NAME=COUNT:SPEED``."""
    match = _KIND.fullmatch(text)
    if not match or int(match[2]) < 1 or float(match[3] or 1) <= 0:
        raise argparse.ArgumentTypeError(f"expected NAME=COUNT or NAME=COUNT:SPEED, got {text!r}")
    return WorkerKind(match[1], int(match[2]), float(match[3] or 1))


def measured_seconds(path: Path) -> list[float]:
    """Seconds of the tasks that a log says are done.

    Raises:
        ValueError: there are none.
    """
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    found = [line["seconds"] for line in lines if line.get("status") == "done"]
    if not found:
        raise ValueError(f"{path}: expected tasks that are done, found none; give the task log of a batch")
    return found


def simulate(
    seconds: Sequence[float], per_hour: float, kinds: Sequence[WorkerKind], hours: float, seed: int
) -> Simulation:
    """Let tasks come for some hours, and work until all are done.

    Args:
        seconds: that tasks took where they were measured; each one is drawn from them.
        per_hour: mean number of tasks that come.
        kinds: of workers.
        hours: for which tasks come.
        seed: of arrivals and draws.
    """
    rng = random.Random(seed)
    # (free from, slowness, number, kind): the worker that is free first, then the fastest
    workers = [
        (0.0, 1 / kind.speed, f"{kind.name}{number}", kind) for kind in kinds for number in range(kind.count)
    ]
    heapq.heapify(workers)
    result = Simulation(busy={kind.name: 0.0 for kind in kinds})
    changes: list[tuple[float, int]] = []
    arrival = rng.expovariate(per_hour / 3600)
    while arrival < hours * 3600:
        ready = []  # of several that wait for work, the fastest takes it
        while workers and workers[0][0] <= arrival:
            ready.append(heapq.heappop(workers))
        chosen = min(ready, key=lambda worker: worker[1]) if ready else heapq.heappop(workers)
        for worker in ready:
            if worker is not chosen:
                heapq.heappush(workers, worker)
        free, slowness, name, kind = chosen
        start = max(arrival, free)
        spent = rng.choice(seconds) * slowness
        heapq.heappush(workers, (start + spent, slowness, name, kind))
        result.busy[kind.name] += spent
        result.waits.append(start - arrival)
        result.end = max(result.end, start + spent)
        changes += [(arrival, 1), (start, -1)]
        arrival += rng.expovariate(per_hour / 3600)
    length = 0
    for time, change in sorted(changes, key=lambda pair: (pair[0], -pair[1])):
        length += change
        result.lengths.append((time, length))
    return result


def report(result: Simulation, kinds: Sequence[WorkerKind]) -> str:
    """One line about the queue and one for each kind of worker."""
    if not result.waits:
        return "no task came; give more --hours or a higher --per-hour"
    waits = sorted(result.waits)
    late = waits[min(len(waits) - 1, math.ceil(0.95 * len(waits)) - 1)]
    longest = max(length for _, length in result.lengths)
    lines = [
        f"{len(waits)} tasks in {result.end / 3600:.1f} h; waiting: mean {sum(waits) / len(waits):.1f} s, "
        f"95 % below {late:.1f} s; longest queue {longest}"
    ]
    for kind in kinds:
        idle = 1 - result.busy[kind.name] / (kind.count * result.end)
        lines.append(f"{kind.name}: {kind.count} workers, idle {idle:.0%}")
    return "\n".join(lines)


def drawing(result: Simulation) -> str:
    """The queue over time as SVG."""
    longest = max((length for _, length in result.lengths), default=0) or 1
    width, height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    points, before = [], 0
    for time, length in result.lengths:
        x = _MARGIN + width * time / result.end
        points += [(x, before), (x, length)]
        before = length
    line = " ".join(f"{x:.1f},{_HEIGHT - _MARGIN - height * length / longest:.1f}" for x, length in points)
    text = 'font-family="sans-serif" font-size="12"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
        f'<path d="M{_MARGIN},{_MARGIN} V{_HEIGHT - _MARGIN} H{_WIDTH - _MARGIN}" fill="none" stroke="#888"/>'
        f'<polyline points="{line}" fill="none" stroke="#1f6fb2"/>'
        f'<text x="{_MARGIN}" y="{_MARGIN - 8}" {text}>tasks that wait, at most {longest}</text>'
        f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - 16}" text-anchor="end" {text}>'
        f"{result.end / 3600:.1f} hours</text></svg>\n"
    )


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--task-log", type=Path, metavar="FILE", help="of a batch: its seconds are drawn from"
    )
    source.add_argument(
        "--seconds", type=positive_float, nargs="+", help="that tasks take, in place of a log"
    )
    parser.add_argument("--per-hour", type=positive_float, required=True, help="tasks that come, on average")
    parser.add_argument("--workers", type=worker_kind, nargs="+", required=True, metavar="NAME=COUNT[:SPEED]")
    parser.add_argument(
        "--hours", type=positive_float, default=24.0, help="for which they come (%(default)s)"
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="(%(default)s)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the queue over time")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate and tell; 1 when the task log cannot be used."""
    options = parse_arguments(arguments)
    try:
        seconds = options.seconds or measured_seconds(options.task_log)
    except (OSError, ValueError) as error:
        print(f"queue_simulator.py: {error}", file=sys.stderr)
        return 1
    result = simulate(seconds, options.per_hour, options.workers, options.hours, options.seed)
    print(report(result, options.workers))
    if options.svg and result.waits:
        options.svg.write_text(drawing(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
