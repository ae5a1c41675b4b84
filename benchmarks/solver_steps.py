"""Solvers and numbers of steps of the structure stage on validation scenes: what they cost, what they find.

    python -m benchmarks.solver_steps --input data/scenes/masked_images_validation \
        --truth data/scenes/scene_validation --output data/solvers \
        [--solvers euler multistep] [--steps 4 8 12 25] [--device cuda --processes 8]

Every setting makes the scenes of `validation_scenes.json` with inference.py, structures alone, and is
measured by evaluate.py, by the corrected protocol without alignment and with it; the first row is the
checkpoint's own setting, with which the others are compared. A checkpoint with a flow of few steps has a row
for that one. Seconds are of processes that share the machine. Goes on where an earlier run ended, and prints
a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from benchmarks.evaluation_tables import resolve_paths
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.evaluation.differences import read_report
from trellis_modules.files import atomic_write_text
from trellis_modules.samplers import SamplingParams
from trellis_modules.samplers.flow_euler import sampling_times
from trellis_modules.samplers.registry import merge_params
from trellis_modules.samplers.solvers import SOLVERS, SolverName

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("validation_scenes.json")
PROTOCOL = "corrected"
FIGURES = ("iou_bbox", "scene_fscore", "iou_bbox_unaligned", "scene_fscore_unaligned")
SECONDS = "seconds.json"


@dataclass(frozen=True)
class Setting:
    """A solver and its steps; None for both is the own setting of the flow, which is one of two."""

    solver: SolverName | None = None
    steps: int | None = None
    few_steps: bool = False

    @property
    def name(self) -> str:
        """Of its folder."""
        if self.few_steps:
            return "few_steps"
        return "own" if self.solver is None else f"{self.solver}_{self.steps}"

    @property
    def is_compared(self) -> bool:
        """Whether it is another setting than that which the others are compared with."""
        return self != Setting()

    def params(self, config: PipelineConfig) -> SamplingParams:
        """What the sampler is told for a checkpoint."""
        own = config.structure_flow(self.few_steps).sampler.params
        return merge_params(own, {"solver": self.solver, "steps": self.steps}, self.name)

    def options(self) -> list[str]:
        """Options of inference.py."""
        if self.few_steps:
            return ["--few-steps"]
        return [] if self.solver is None else ["--solver", self.solver, "--steps", str(self.steps)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make, measure and print; returns the exit status."""
    options = parse_arguments(arguments)
    config = PipelineConfig.load(options.checkpoint)
    settings = [Setting()] if config.few_step_sampler is None else [Setting(), Setting(few_steps=True)]
    settings += [Setting(solver, steps) for solver in options.solvers for steps in options.steps]
    rows: list[tuple[Setting, dict[str, float]]] = []
    print(header(), flush=True)
    for setting in settings:
        folder = options.output / setting.name
        figures = measured(setting, folder, options)
        if figures is None:
            return 1
        rows.append((setting, figures))
        print(row(setting, setting.params(config), figures, rows[0][1]), flush=True)
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--input", type=Path, required=True, help="masked photos of the validation scenes")
    parser.add_argument("--truth", type=Path, required=True, help="their true scenes")
    parser.add_argument("--output", type=Path, required=True, help="predictions and reports")
    parser.add_argument("--solvers", nargs="+", choices=get_args(SolverName), default=list(SOLVERS))
    parser.add_argument("--steps", nargs="+", type=positive_int, default=[4, 8, 12, 25])
    parser.add_argument("--list", type=Path, default=LIST, help="default: the committed one")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints/scenegen-small")
    parser.add_argument("--device", default="cpu", help="of the predictions (%(default)s)")
    parser.add_argument(
        "--processes", type=positive_int, default=1, help="which share the work (%(default)s)"
    )
    parser.add_argument("--limit", type=positive_int, help="only the first scenes")
    options = parser.parse_args(arguments)
    resolve_paths(options, "input", "truth", "output", "list", "checkpoint")
    return options


def measured(setting: Setting, folder: Path, options: argparse.Namespace) -> dict[str, float] | None:
    """The figures of a setting, and its seconds a scene; None where a command fails."""
    report = folder.with_suffix(".json")
    shared = ["--limit", str(options.limit)] if options.limit else []
    if options.processes > 1:
        shared += ["--workers", str(options.processes), "--cpus-per-worker", "1"]
    if not (folder / SECONDS).is_file():
        made = run(
            "inference.py", "--json", "--no-appearance", "--overwrite", "--formats", "glb,poses", "--input",
            options.input, "--output", folder, "--checkpoint", options.checkpoint, "--device", options.device,
            *shared, *setting.options(),
        )  # fmt: skip
        if made is None:
            return None
        seconds = [scene["seconds"]["sample"] for scene in json.loads(made)["scenes"] if scene["seconds"]]
        atomic_write_text(folder / SECONDS, json.dumps(seconds))
    command = ["evaluate.py", "--prediction", folder, "--truth", options.truth, "--list", options.list]
    if not report.is_file() and run(*command, "--protocol", PROTOCOL, "--output", report, *shared) is None:
        return None
    summary = read_report(report)["protocols"][PROTOCOL]["summary"]["all"]
    seconds = json.loads((folder / SECONDS).read_text(encoding="utf-8"))
    return {name: summary[name]["mean"] for name in FIGURES} | {"seconds": statistics.median(seconds)}


def run(*command: Any) -> str | None:
    """What a Python command of the checkout prints; None where it fails, its messages are shown."""
    process = subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    return process.stdout if process.returncode == 0 else None


def passes(params: SamplingParams) -> int:
    """Passes of the network in a run: one for each look at the state, and one more where it is guided."""
    times = sampling_times(params.steps, params.rescale_t)
    low, high = params.cfg_interval
    looks = SOLVERS[params.solver].looks(times)
    return len(looks) + (sum(low <= t <= high for t in looks) if params.cfg_strength else 0)


def header() -> str:
    """Of the table."""
    titles = ["solver", "steps", "passes", "seconds", *(f"`{name}`" for name in FIGURES)]
    return f"| {' | '.join(titles)} |\n|---|" + "---:|" * (len(titles) - 1)


def row(setting: Setting, params: SamplingParams, figures: dict[str, float], own: dict[str, float]) -> str:
    """A setting, its means, and how far they are from those of the checkpoint's ``own`` setting."""
    compared = " ({:+.3f})" if setting.is_compared else ""
    cells = [f"{figures[name]:.3f}{compared.format(figures[name] - own[name])}" for name in FIGURES]
    title = f"{params.solver} ({setting.name.replace('_', ' ')})" if setting.solver is None else params.solver
    return f"| {title} | {params.steps} | {passes(params)} | {figures['seconds']:.2f} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
