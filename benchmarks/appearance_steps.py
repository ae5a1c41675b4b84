"""Sampling steps of the appearance flow, chosen on validation scenes by the colours of the objects.

    python -m dataset_toolkits.build_scenes --data-root data/sweethome3d --output-dir data/scenes \\
        --set validation --list benchmarks/validation_scenes.json
    python -m benchmarks.appearance_steps --root data/scenes --output data/appearance_steps

The first command draws the scenes of ``validation_scenes.json``, whose furniture is not that of the test
scenes. The second one makes the first of them with each number of steps, measures the colours of their
objects, and writes the table between the marks in benchmarks/README.md. It goes on where an earlier run
ended; ``--dry-run`` only prints the table of what is there.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evaluation_tables import resolve_paths, run_together, write_between
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.evaluation.differences import compare_reports, read_report
from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.settings import CORRECTED

LIST = Path(__file__).parent / "validation_scenes.json"
PAGE = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- table of appearance_steps.py: begin -->", "<!-- table of appearance_steps.py: end -->"
"""Between these marks the page has the table."""

SET, FIGURE = "validation", "colour_psnr"
STEPS = (2, 4, 6)
SCENES = 12
TEXTURE_SIZE = 256
POINTS = 500  # the geometry is the same for all and is not what is compared

_LOG = logging.getLogger("appearance_steps")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    options = parse_arguments(arguments)
    try:
        for steps in options.steps:
            if not options.dry_run and (status := _measure(steps, options)):
                return status
        text = table({steps: read_report(_report(steps, options)) for steps in options.steps})
        print(text)
        if not options.dry_run:
            write_between(PAGE, BEGIN, END, text)
    except EvaluationError as error:
        _LOG.error("%s", error)
        return 2
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        required=True,
        help=f"has masked_images_{SET} and scene_{SET}; scenes go to scene_{SET}_steps_<n>",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", required=True, help="folder of the reports")
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="default: the small model")
    parser.add_argument("--device", default="cpu", help="of the predictions (%(default)s)")
    parser.add_argument("--steps", type=positive_int, nargs="+", default=STEPS, help="default: 2 4 6")
    parser.add_argument("--limit", type=positive_int, default=SCENES, help="scenes (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="only print the table of what is there")
    options = parser.parse_args(arguments)
    resolve_paths(options, "root", "output", "checkpoint")
    return options


def _report(steps: int, options: argparse.Namespace) -> Path:
    return options.output / f"steps_{steps}.json"


def _measure(steps: int, options: argparse.Namespace) -> int:
    """Make the missing scenes with a number of steps and measure all; the exit status."""
    name = f"steps_{steps}"
    predict = ["inference.py", "--output-dir", options.root, "--set", SET, "--model-name", name]
    predict += ["--limit", options.limit, "--slat-steps", steps, "--texture-size", TEXTURE_SIZE]
    predict += ["--device", options.device]
    predict += ["--checkpoint", options.checkpoint] if options.checkpoint else []
    measure = ["evaluate.py", "--prediction", options.root / f"scene_{SET}_{name}"]
    measure += ["--truth", options.root / f"scene_{SET}", "--list", LIST, "--limit", options.limit]
    measure += ["--protocol", CORRECTED, "--alignment", "none", "--num-points", POINTS, "--appearance"]
    measure += ["--no-photo", "--output", _report(steps, options)]
    for command in (predict, measure):
        if status := run_together([list(map(str, command))]):
            return status
    return 0


def table(reports: Mapping[int, dict[str, Any]]) -> str:
    """A row for each number of steps: mean PSNR of colours, and the paired difference from the first."""
    first = reports[min(reports)]
    lines = [
        f"| steps | scenes | objects | `{FIGURE}`, dB (95 % interval) | `{FIGURE}_flat` | "
        f"less than {min(reports)} steps by (means of scenes) |",
        "|---:|---:|---:|---|---:|---|",
    ]
    for steps, report in sorted(reports.items()):
        found = report["protocols"][CORRECTED]["summary"]["all"]
        low, high = found[FIGURE]["ci95"]
        cells = [
            steps,
            report["coverage"]["scenes"],
            report["coverage"]["objects"],
            f"{found[FIGURE]['mean']:.2f} ({low:.2f} to {high:.2f})",
            f"{found[f'{FIGURE}_flat']['mean']:.2f}",
            "" if report is first else _difference(first, report),
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _difference(first: dict[str, Any], other: dict[str, Any]) -> str:
    entry = compare_reports(other, first)["protocols"][CORRECTED][FIGURE]
    low, high = entry["ci95"]
    return f"{entry['difference']:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    sys.exit(main())
