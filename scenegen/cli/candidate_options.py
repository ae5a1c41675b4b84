"""Options for how many samples of the structures there are to choose from."""

from __future__ import annotations

import argparse

from safe_files.limits import MAX_CANDIDATES
from scenegen.cli.types import up_to
from scenegen.pipelines.settings import BUDGETS


def add_candidate_arguments(parser: argparse.ArgumentParser) -> None:
    """How many samples of the structures there are to choose from."""
    counts = parser.add_mutually_exclusive_group()
    counts.add_argument(
        "--candidates",
        type=up_to(MAX_CANDIDATES),
        metavar="N",
        help="sample the structures N times at once, with seeds one after the other, and go on with the best "
        "by confidence (1)",
    )
    budgets = ", ".join(f"{name} {count}" for name, count in BUDGETS.items())
    counts.add_argument("--budget", choices=BUDGETS, help=f"the same by name: {budgets}")


def candidates_of(options: argparse.Namespace) -> int:
    """The number of samples that the command line asks for."""
    return BUDGETS[options.budget] if options.budget else options.candidates or 1
