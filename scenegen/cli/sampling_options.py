"""Options for how the flow models of both stages are sampled."""

from __future__ import annotations

import argparse
from typing import Any, get_args

from safe_files.limits import MAX_STEPS
from scenegen.cli.types import non_negative, up_to
from trellis_modules.samplers.solvers import SolverName

FEW_STEPS_HELP = "the checkpoint's flow of structures that was trained to need few steps, where it has one"


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """How structures are sampled, and then the appearance."""
    parser.add_argument("--few-steps", action="store_true", help=FEW_STEPS_HELP)
    parser.add_argument("--steps", type=up_to(MAX_STEPS), help="sampling steps; default: the checkpoint's")
    parser.add_argument("--cfg", type=non_negative, help="guidance strength; default: the checkpoint's")
    interval = {"nargs": 2, "type": non_negative, "metavar": ("LOW", "HIGH")}
    parser.add_argument(
        "--cfg-interval",
        **interval,
        help="times at which guidance acts, 0 is data and 1 noise; default: the checkpoint's",
    )
    parser.add_argument(
        "--solver",
        choices=get_args(SolverName),
        help="what makes a step; midpoint and heun take two passes for one; default: the checkpoint's",
    )
    parser.add_argument("--slat-steps", type=up_to(MAX_STEPS), help="sampling steps of the appearance stage")
    parser.add_argument("--slat-cfg", type=non_negative, help="guidance strength of the appearance stage")
    parser.add_argument("--slat-cfg-interval", **interval, help="the same of the appearance stage")
    parser.add_argument(
        "--slat-solver", choices=get_args(SolverName), help="what makes a step of the appearance stage"
    )


def sampling_settings(options: argparse.Namespace) -> dict[str, Any]:
    """The part of `RunSettings` that the command line gives.

    Raises:
        ValueError: an interval is none.
    """
    intervals = {"--cfg-interval": options.cfg_interval, "--slat-cfg-interval": options.slat_cfg_interval}
    for flag, (low, high) in ((flag, values) for flag, values in intervals.items() if values is not None):
        if not low <= high <= 1:
            raise ValueError(f"{flag}: expected 0 <= LOW <= HIGH <= 1, got {low:g} {high:g}")
    structure = {
        "steps": options.steps,
        "cfg_strength": options.cfg,
        "cfg_interval": options.cfg_interval,
        "solver": options.solver,
    }
    appearance = {
        "steps": options.slat_steps,
        "cfg_strength": options.slat_cfg,
        "cfg_interval": options.slat_cfg_interval,
        "solver": options.slat_solver,
    }
    return {
        "few_steps": options.few_steps,
        "sampling": given(**structure),
        "slat_sampling": given(**appearance),
    }


def given(**settings: Any) -> dict[str, Any]:
    """The settings that are not None."""
    return {name: value for name, value in settings.items() if value is not None}
