"""Compare predicted scenes with true ones: geometry, boxes and poses.

Both folders hold scenes as `<id>.glb` with `<id>.json`, or as `<id>/scene.glb` with `<id>/poses.json`.
Exit status: 0 done, 1 done but with --strict a scene is missing or failed, 2 the input cannot be evaluated.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from safe_files.limits import MAX_SURFACE_POINTS, MAX_WORKERS
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, up_to
from scenegen.evaluation.alignment import ALIGNMENT_MODES, AlignmentSettings
from scenegen.evaluation.comparison import EvaluationSettings
from scenegen.evaluation.glb import GlbError
from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.report import build_report, format_table, write_csv, write_json
from scenegen.evaluation.runner import EvaluationPlan, RecordStore, iterate_records, plan_evaluation
from scenegen.evaluation.scene import Record

_LOG = logging.getLogger("evaluate")


def parse_arguments(arguments: Sequence[str] | None, prog: str | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = CommandParser(__doc__, prog)
    parser.add_argument(
        "--prediction", type=Path, required=True, metavar="DIR", help="folder of predicted scenes"
    )
    parser.add_argument("--truth", type=Path, required=True, metavar="DIR", help="folder of true scenes")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="JSON",
        help="report; finished scenes are kept beside it in <name>.records.jsonl and not redone",
    )
    parser.add_argument("--csv", action="store_true", help="also write one row per scene beside --output")
    parser.add_argument(
        "--num-points",
        type=up_to(MAX_SURFACE_POINTS),
        default=10240,
        help="surface points per object (%(default)s)",
    )
    parser.add_argument(
        "--alignment",
        choices=ALIGNMENT_MODES,
        default="best",
        help="best: coarse search, FilterReg and ICP; filterreg: one start, as is (%(default)s)",
    )
    parser.add_argument("--workers", type=up_to(MAX_WORKERS), default=2, help="processes (%(default)s)")
    parser.add_argument("--limit", type=positive_int, help="only the first scenes of the truth")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a scene is missing or failed")
    options = parser.parse_args(arguments)
    if options.csv and options.output is None:
        parser.error("--csv needs --output, beside which the table is written")
    return options


def evaluate(options: argparse.Namespace) -> int:
    """Run the evaluation that the command line asks for and return the exit status."""
    settings = EvaluationSettings(options.num_points, alignment=AlignmentSettings(options.alignment))
    plan = plan_evaluation(options.prediction, options.truth, settings, options.limit)
    records = _collect(plan, options)
    inputs = {"prediction": str(options.prediction), "truth": str(options.truth)}
    report = build_report(records, plan.settings, inputs)
    if options.output:
        write_json(options.output, report)
    if options.csv:
        write_csv(options.output.with_suffix(".csv"), report)
    print(format_table(report))
    return 1 if options.strict and report["failures"] else 0


def _collect(plan: EvaluationPlan, options: argparse.Namespace) -> list[Record]:
    """Evaluate with a progress bar and return the records in the order of the plan."""
    store_path = None
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        store_path = options.output.with_suffix(".records.jsonl")
    records: dict[str, Record] = {}
    with logging_redirect_tqdm():
        with RecordStore(store_path) as store:
            stream = iterate_records(plan, store, options.workers)
            for record in tqdm(stream, total=len(plan.pairs), desc="evaluate", unit="scene", disable=None):
                records[record["id"]] = record
                for line in filter(None, [record["error"], *record["warnings"]]):
                    _LOG.warning("%s", line)
    return [records[pair.scene_id] for pair in plan.pairs]


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return its exit status; faults of the input end in one line."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    options = parse_arguments(arguments, prog)
    try:
        return evaluate(options)
    except (EvaluationError, GlbError) as error:
        _LOG.error("%s", error)
    except OSError as error:  # faults of the scenes are told by the errors above
        _LOG.error(
            "--output %s: expected to write the report, the disk refuses (%s); check the path, the free "
            "space and the permissions",
            options.output,
            error,
        )
    except BrokenProcessPool:
        _LOG.error(
            "a worker process was killed, as a rule for lack of memory; run again with fewer --workers "
            "(scenes already finished are kept when --output is given)"
        )
    return 2
