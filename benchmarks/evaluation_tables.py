"""The small model, itself without scene attention, and the mean shape, by both protocols in one table.

    python -m benchmarks.evaluation_tables predict --root data/scenes --pack data/packs/train.safetensors
    python -m benchmarks.evaluation_tables measure --root data/scenes --output data/tables
    python -m benchmarks.evaluation_tables insert --output data/tables

The first command makes the scenes of every method, structures alone and textured, from
``<root>/masked_images_test``; the second one evaluates them on the scenes of ``test_scenes.json`` with
appearance, and writes ``tables.md`` beside the reports. Both go on where an earlier run ended, and share
their work among processes. The third one makes the tables of the reports that are there, and writes them
between the marks in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.evaluation.differences import compare_reports, read_report
from scenegen.evaluation.loading import EvaluationError, find_scene_files
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.evaluation.tables import APPEARANCE_FIGURES, COLOUR_FIGURES, aligners, header_lines
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
"""Name of the predictions -> options of inference.py."""

MEAN_SHAPE = "mean_shape"

PAGE = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- tables of evaluation_tables.py: begin -->", "<!-- tables of evaluation_tables.py: end -->"
"""Between these marks the page has the tables."""

_SCENE = ("scene_cd", "scene_fscore", "iou_bbox")
_OBJECT = ("object_cd", "object_fscore")
_POSES = ("rotation_error_deg", "rotation_error_symmetric_deg", "translation_error", "size_agreement")
FIGURES = (
    *_SCENE,
    *(f"{name}_unaligned" for name in _SCENE),
    *(f"{name}_similarity" for name in _SCENE),
    *("iou_box_upright", "iou_bbox_hungarian", "add_s", "floor_gap", "collision_volume"),
    *_OBJECT,
    *(f"{name}_iso" for name in _OBJECT),
    *_POSES,
    *APPEARANCE_FIGURES,
    *COLOUR_FIGURES,
)
"""Rows of the table of all methods."""

PAIRED = (*_SCENE, *_OBJECT, "rotation_error_symmetric_deg", "render_psnr", "render_lpips", "colour_psnr")
"""Rows of the tables of two methods."""

_LOG = logging.getLogger("evaluation_tables")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    options = parse_arguments(arguments)
    try:
        return STEPS[options.step](options)
    except EvaluationError as error:
        _LOG.error("%s", error)
        return 2


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="has masked_images_test and scene_test; scenes go to scene_test_<method>",
    )
    names = (*METHODS, MEAN_SHAPE)
    parser.add_argument("--methods", nargs="+", choices=names, default=names, help="default: all")
    parser.add_argument(
        "--pack", type=Path, metavar="FILE", help="training pack of the mean shape; of predict"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder of the reports; of measure, insert"
    )
    parser.add_argument("--device", default="cpu", help="of predict (%(default)s)")
    parser.add_argument(
        "--processes", type=positive_int, default=2, help="which share the work (%(default)s)"
    )
    parser.add_argument("--limit", type=positive_int, help="only the first scenes")
    options = parser.parse_args(arguments)
    for name in ("root",) * (options.step != "insert") + ("output",) * (options.step != "predict"):
        if getattr(options, name) is None:
            parser.error(f"{options.step} needs --{name}")
    if options.step == "predict" and MEAN_SHAPE in options.methods and options.pack is None:
        parser.error(f"predict of {MEAN_SHAPE} needs --pack")
    resolve_paths(options, "root", "pack", "output")
    return options


def predict(options: argparse.Namespace) -> int:
    """Make the scenes of every method that are not there yet."""
    status = 0
    for name in options.methods:
        began = time.perf_counter()
        status = max(status, _predict_mean(options) if name == MEAN_SHAPE else _predict(name, options))
        _LOG.info("%s: predicted in %.0f s", name, time.perf_counter() - began)
    return status


def _predict(name: str, options: argparse.Namespace) -> int:
    """Make the missing scenes of one method, dealt out among processes like cards."""
    folder = predictions(options.root, name)
    found = find_scene_files(folder) if folder.is_dir() else {}
    made = {scene_id for scene_id, files in found.items() if files.poses}  # written last
    missing = [scene for scene in ListedScenes.load(LIST).first(options.limit).ids if scene not in made]
    if not missing:
        return 0
    command = ["inference.py", "--output-dir", str(options.root), "--set", "test"]
    command += ["--model-name", name, "--device", options.device, *METHODS[name]]
    with tempfile.TemporaryDirectory() as lists:
        commands = []
        for index in range(min(options.processes, len(missing))):
            only = Path(lists) / f"{index}.txt"
            only.write_text("\n".join(missing[index :: options.processes]), encoding="utf-8")
            commands.append([*command, "--only", str(only)])
        return run_together(commands)


def _predict_mean(options: argparse.Namespace) -> int:
    images = options.root / "masked_images_test"
    command = ["-m", "benchmarks.mean_shape_baseline", "--input", images, "--pack", options.pack]
    command += ["--output", predictions(options.root, MEAN_SHAPE)]
    command += ["--limit", options.limit] if options.limit else []
    return run_together([list(map(str, command))])


def predictions(root: Path, name: str) -> Path:
    """Folder of the scenes of a method."""
    return root / f"scene_test_{name}"


def measure(options: argparse.Namespace) -> int:
    """Evaluate every method that has predictions, and write the tables."""
    reports = {}
    for name in options.methods:
        prediction = predictions(options.root, name)
        if not prediction.is_dir():
            _LOG.warning("%s: no predictions; left out of the tables", prediction)
            continue
        began = time.perf_counter()
        output = options.output / f"{name}.json"
        command = ["evaluate.py", "--prediction", prediction, "--truth", options.root / "scene_test"]
        command += ["--list", LIST, "--output", output, "--appearance", "--csv", "--markdown"]
        command += ["--pictures", options.output / "pictures", "--workers", options.processes]
        command += ["--limit", options.limit] if options.limit else []
        if status := run_together([list(map(str, command))]):
            return status
        _LOG.info("%s: measured in %.0f s", name, time.perf_counter() - began)
        reports[name] = read_report(output)
    if not reports:
        raise EvaluationError(f"{options.root}: expected scene_test_<method>, found none; run predict first")
    text = tables(reports)
    atomic_write_text(options.output / "tables.md", text)
    print(text)
    return 0


def insert(options: argparse.Namespace) -> int:
    """Write the tables of all reports that are there between the marks of the page."""
    paths = {name: options.output / f"{name}.json" for name in options.methods}
    reports = {name: read_report(path) for name, path in paths.items() if path.is_file()}
    if not reports:
        raise EvaluationError(f"{options.output}: expected reports of measure, found none; run it first")
    write_between(PAGE, BEGIN, END, tables(reports))
    return 0


def write_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put a text between two marks of a page.

    Raises:
        EvaluationError: the page does not have them.
    """
    before, found_begin, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_end:
        raise EvaluationError(f"{page}: expected the marks {begin} and {end}; put them where the tables go")
    atomic_write_text(page, f"{before}{found_begin}\n{text}\n{found_end}{after}")


STEPS = {"predict": predict, "measure": measure, "insert": insert}


def tables(reports: Mapping[str, dict[str, Any]]) -> str:
    """What the reports are of, means by both protocols, and paired differences from the first method.

    Methods with fewer scenes than others are in the paired table alone.
    """
    most = max(report["coverage"]["scenes"] for report in reports.values())
    whole = {name: report for name, report in reports.items() if report["coverage"]["scenes"] == most}
    first, report = next(iter(whole.items()))
    lines = []
    for protocol in report["protocols"]:
        title, listed, counts = header_lines(report, protocol)
        lines.append("- " + "; ".join([title, counts, *aligners(report, protocol)]))
    lines += [f"- {listed}", "", *_means_of_all(whole), ""]
    for name, other in reports.items():
        if name != first:
            lines += [*_paired(first, name, compare_reports(report, other)), ""]
    return "\n".join(lines).rstrip()


def _means_of_all(reports: Mapping[str, dict[str, Any]]) -> list[str]:
    """A row for each figure and a column for each method and protocol: mean and interval over scenes."""
    found = {
        (name, protocol): report["protocols"][protocol]["summary"]["all"]
        for name, report in reports.items()
        for protocol in report["protocols"]
    }
    lines = ["| figure | " + " | ".join(f"{name}, {protocol}" for name, protocol in found) + " |"]
    lines += ["|---|" + "---|" * len(found)]
    for figure in FIGURES:
        if any(figure in summary for summary in found.values()):
            cells = [_cell(summary.get(figure)) for summary in found.values()]
            lines.append(f"| `{figure}` | " + " | ".join(cells) + " |")
    return lines


def _cell(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    digits = 1 if abs(entry["mean"]) >= 5 else 3
    low, high = entry["ci95"]
    return f"{entry['mean']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _paired(first: str, second: str, differences: dict[str, Any]) -> list[str]:
    """Differences of two methods on the scenes that both have."""
    lines = [f"`{first}` and `{second}` on {differences['scenes']} scenes of both, means of scenes:", ""]
    lines += [f"| protocol | figure | {first} | {second} | difference | 95 % interval |"]
    lines += ["|---|---|---:|---:|---:|---|"]
    for protocol, figures in differences["protocols"].items():
        for figure in PAIRED:
            if figure in figures:
                entry = figures[figure]
                low, high = entry["ci95"]
                lines.append(
                    f"| {protocol} | `{figure}` | {entry['first']:.3f} | {entry['second']:.3f} | "
                    f"{entry['difference']:+.4f} | {low:+.4f} to {high:+.4f} |"
                )
    return lines


def resolve_paths(options: argparse.Namespace, *names: str) -> None:
    """Make paths of a command line absolute, where they are given: `run_together` runs in the checkout."""
    for name in names:
        path = getattr(options, name)
        setattr(options, name, path and path.resolve())


def run_together(commands: list[list[str]]) -> int:
    """Run Python commands side by side in the checkout, which share the cores; the greatest exit status."""
    threads = max(1, (os.cpu_count() or 1) // len(commands))
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    running = [
        subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment) for command in commands
    ]
    return max(abs(process.wait()) for process in running)


if __name__ == "__main__":
    sys.exit(main())
