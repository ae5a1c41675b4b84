"""The small model, itself without scene attention, and the mean shape, by both protocols in one table.

    python -m benchmarks.evaluation_tables predict --images data/scenes/masked_images_test \\
        --pack data/packs/train.safetensors --predictions data/predictions
    python -m benchmarks.evaluation_tables measure --truth data/scenes/scene_test \\
        --predictions data/predictions

The first command makes the scenes of every method, structures alone and textured; the second one evaluates
them on the scenes of ``test_scenes.json`` with appearance, and writes ``tables.md`` with a row for each
method beside the reports. Both go on where an earlier run ended.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scenegen.cli.parser import CommandParser
from scenegen.evaluation.differences import read_report
from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.settings import PROTOCOLS
from scenegen.evaluation.tables import header_lines, paper_table
from trellis_modules.files import atomic_write_text

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).parent / "test_scenes.json"
ALONE, STRUCTURE = ["--no-scene-attention"], ["--no-appearance"]
METHODS = {
    "small_structure": STRUCTURE,
    "alone_structure": [*STRUCTURE, *ALONE],
    "small": [],
    "alone": ALONE,
}
"""Folder of the predictions -> options of inference.py."""

MEAN_SHAPE = "mean_shape"

_LOG = logging.getLogger("evaluation_tables")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    options = parse_arguments(arguments)
    try:
        return predict(options) if options.step == "predict" else measure(options)
    except EvaluationError as error:
        _LOG.error("%s", error)
        return 2


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("step", choices=("predict", "measure"))
    parser.add_argument("--images", type=Path, metavar="DIR", help="photos and masks; of predict")
    parser.add_argument(
        "--pack", type=Path, metavar="FILE", help="training pack of the mean shape; of predict"
    )
    parser.add_argument("--truth", type=Path, metavar="DIR", help="true scenes; of measure")
    parser.add_argument(
        "--predictions", type=Path, metavar="DIR", required=True, help="folder of all methods"
    )
    parser.add_argument("--device", default="cpu", help="of predict (%(default)s)")
    parser.add_argument("--limit", help="only the first scenes")
    options = parser.parse_args(arguments)
    for name in ("images", "pack") if options.step == "predict" else ("truth",):
        if getattr(options, name) is None:
            parser.error(f"{options.step} needs --{name}")
    return options


def predict(options: argparse.Namespace) -> int:
    """Make the scenes of every method that are not there yet."""
    limit = ["--limit", options.limit] if options.limit else []
    folder, images = options.predictions, ["--input", str(options.images)]
    for name, more in METHODS.items():
        output = ["--output", str(folder / name), "--formats", "glb,poses", "--device", options.device]
        if status := _run("inference.py", *images, *output, *more, *limit):
            return status
    baseline = ["-m", "benchmarks.mean_shape_baseline", *images, "--pack", str(options.pack)]
    return _run(*baseline, "--output", str(folder / MEAN_SHAPE), *limit)


def measure(options: argparse.Namespace) -> int:
    """Evaluate every method that has predictions, and write the tables."""
    reports = {}
    for name in (*METHODS, MEAN_SHAPE):
        prediction = options.predictions / name
        if not prediction.is_dir():
            _LOG.warning("%s: no predictions; left out of the tables", prediction)
            continue
        output = prediction.with_suffix(".json")
        command = ["evaluate.py", "--prediction", prediction, "--truth", options.truth, "--list", LIST]
        command += ["--output", output, "--appearance", "--csv", "--markdown"]
        if status := _run(*map(str, command), *(["--limit", options.limit] if options.limit else [])):
            return status
        reports[name] = read_report(output)
    if not reports:
        raise EvaluationError(f"{options.predictions}: expected predictions, found none; run predict first")
    text = tables(reports)
    atomic_write_text(options.predictions / "tables.md", text)
    print(text)
    return 0


def tables(reports: dict[str, dict]) -> str:
    """One table for each protocol, with a row for each method, and what it is of."""
    lines = []
    for protocol in PROTOCOLS:
        lines += [f"## Protocol: {protocol}", ""]
        for name, report in reports.items():
            lines.append(f"- {name}: {'; '.join(header_lines(report, protocol))}")
        lines += ["", *paper_table(reports, protocol), ""]
    return "\n".join(lines)


def _run(*arguments: str) -> int:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
