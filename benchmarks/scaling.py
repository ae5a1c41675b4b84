"""Training of the scene flow at its released size on 1, 2, 4 and 8 GPUs: steps, efficiency, memory, waiting.

    python -m benchmarks.scaling --output outputs/scaling [--sizes 1 2 4 8] [--parallel ddp fsdp2]

Every GPU trains on one photo of --objects objects a step, so that more GPUs learn from more photos in the
same time; the efficiency is the time of a step on one GPU over that on several. Weights are random and data
made as by `benchmarks.training_full_size`, in bfloat16. A row is printed when it is done and kept in
``OUTPUT/scaling.jsonl``: the same command again measures what is missing and prints the whole table. Sizes
that this machine does not have stay open.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.released_size import say
from benchmarks.training_full_size import train, warm_means, write_frozen, write_root
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.trainers.distributed import processes
from scenegen.trainers.launch import Place, places, run_processes
from scenegen.trainers.loop_config import PARALLEL
from trellis_modules.files import atomic_write_text

SIZES = (1, 2, 4, 8)
RESULTS = "scaling.jsonl"
HEADER = (
    "| GPUs | | steps a second | photos a second | efficiency | peak GiB | waiting for data |\n"
    "|---:|---|---:|---:|---:|---:|---:|"
)

Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing and print the table; 1 where a run failed."""
    options = parse_arguments(arguments)
    device = torch.device(options.device)
    there = torch.cuda.device_count() if device.type == "cuda" else max(options.sizes)
    write_frozen(options.output / "frozen", device, options.small)
    write_root(options, options.objects)
    failed = False
    for size, parallel in itertools.product(sorted(options.sizes), options.parallel):
        parallel = "alone" if size == 1 else parallel
        if size > there or find(read(options), size, parallel) is not None:
            continue
        if (row := measure(options, size, parallel)) is None:
            failed = True
            continue
        path = options.output / RESULTS
        before = path.read_text() if path.is_file() else ""
        atomic_write_text(path, f"{before}{json.dumps(row)}\n")
        say(line(row, find(read(options), 1, "alone")))
    tell(options, read(options), there)
    return int(failed)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of data, weights, logs and results"
    )
    parser.add_argument("--sizes", type=positive_int, nargs="+", default=SIZES, help="GPUs (1 2 4 8)")
    parser.add_argument("--parallel", nargs="+", choices=PARALLEL, default=PARALLEL, help="(both)")
    parser.add_argument("--objects", type=positive_int, default=4, help="of each photo (%(default)s)")
    parser.add_argument("--steps", type=positive_int, default=24, help="of each run (%(default)s)")
    parser.add_argument("--workers", type=positive_int, default=4, help="that read, a GPU (%(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="a tiny network, to try the benchmark itself")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace, size: int, parallel: str) -> Row | None:
    """Train on so many GPUs; None, after a line, where that fails."""
    label = f"{size}_{parallel}"
    status = run_processes(run_rank, (options, label, parallel), places(size, 1, 0, "localhost", None))
    if status:
        say(f"{label}: ended with status {status}")
        return None
    log = (options.output / label / "log.jsonl").read_text().splitlines()
    records = [json.loads(text) for text in log]
    speed = warm_means(records)
    return {
        "gpus": size,
        "parallel": parallel,
        "objects": options.objects,
        "seconds_per_step": speed["seconds_per_step"],
        "memory_gib": records[-1]["memory_gib"],
        "data_wait": speed["data_wait"],
        "device": torch.cuda.get_device_name(0) if options.device.startswith("cuda") else "CPU",
    }


def run_rank(place: Place, options: argparse.Namespace, label: str, parallel: str) -> int:
    """One process of a run, on its own GPU."""
    logging.basicConfig(level=logging.WARNING)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    changes = write_frozen(options.output / "frozen", torch.device("cpu"), options.small)
    changes |= {"fp16_mode": "bfloat16"} | ({} if parallel == "alone" else {"parallel": parallel})
    device = place.device(torch.device(options.device))
    with processes(place.rank, place.size, device, place.address, place.port):
        train(options, label, options.objects, options.steps, changes, place)
    return 0


def read(options: argparse.Namespace) -> list[Row]:
    """The rows that were measured with as many objects."""
    path = options.output / RESULTS
    rows = [json.loads(text) for text in path.read_text().splitlines()] if path.is_file() else []
    return [row for row in rows if row["objects"] == options.objects]


def find(rows: list[Row], size: int, parallel: str) -> Row | None:
    """The row of a run, if it was measured."""
    return next((row for row in rows if (row["gpus"], row["parallel"]) == (size, parallel)), None)


def line(row: Row, alone: Row | None) -> str:
    """A row of the table; the efficiency is that of photos a GPU, against one alone."""
    seconds = row["seconds_per_step"]
    efficiency = "" if alone is None else f"{alone['seconds_per_step'] / seconds:.3f}"
    return (
        f"| {row['gpus']} | {row['parallel']} | {1 / seconds:.3f} | {row['gpus'] / seconds:.3f} "
        f"| {efficiency} | {row['memory_gib']:.1f} | {row['data_wait']:.1%} |"
    )


def tell(options: argparse.Namespace, rows: list[Row], there: int) -> None:
    """Print the whole table."""
    say(f"\n{rows[0]['device'] if rows else 'nothing measured'}, {options.objects} objects a photo\n{HEADER}")
    for row in sorted(rows, key=lambda row: (row["gpus"], row["parallel"])):
        say(line(row, find(rows, 1, "alone")))
    for size in sorted(set(options.sizes)):
        if not any(row["gpus"] == size for row in rows):
            reason = f"this machine has {there}" if size > there else "the run failed"
            say(f"| {size} | open: {reason} | | | | | |")


if __name__ == "__main__":
    sys.exit(main())
