"""Compare predicted scenes with true ones: geometry, boxes, poses and appearance, by two protocols.

Both folders hold scenes as `<id>.glb` with `<id>.json`, or as `<id>/scene.glb` with `<id>/poses.json`.

    evaluate.py --prediction DIR --truth DIR [--output results.json] [key=value ...]
    evaluate.py merge --output results.json      joins the parts that --rank and --world-size wrote
    evaluate.py --compare A.json B.json          paired differences of two reports
    evaluate.py --prediction DIR --photos DIR    scenes of photos without truth, against their masks

Exit status: 0 done, 1 done but with --strict a scene is missing or failed, 2 the input cannot be evaluated.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scenegen.batch.engines.tasks import EngineError, Task, TaskRecord, Work
from scenegen.cli.engine_options import run_tasks, worker_count
from scenegen.cli.evaluate_photos import evaluate_photos
from scenegen.cli.evaluation_options import WORKERS, add_reports, check_reports, parse_arguments
from scenegen.cli.parser import CommandParser
from scenegen.evaluation.alignment import AlignmentSettings
from scenegen.evaluation.appearance import AppearanceSources, guess_sources
from scenegen.evaluation.differences import compare_reports, format_differences, read_report
from scenegen.evaluation.glb import GlbError
from scenegen.evaluation.headline import format_headline
from scenegen.evaluation.html_page import write_page
from scenegen.evaluation.loading import EvaluationError
from scenegen.evaluation.pictures.embeddings import NetworkPaths
from scenegen.evaluation.records import (
    RecordStore,
    RunHeader,
    merge_records,
    records_path,
)
from scenegen.evaluation.report import build_report, write_json
from scenegen.evaluation.runner import EvaluationPlan, iterate_records, plan_evaluation
from scenegen.evaluation.scene import Record
from scenegen.evaluation.settings import PROTOCOLS, EvaluationSettings, PaperSettings
from scenegen.evaluation.tables import format_report, write_csv, write_markdown
from scenegen.stores.kept import WorkWithCopies, kept_copy
from scenegen.stores.urls import StoreError

_LOG = logging.getLogger("evaluate")


def evaluate(options: argparse.Namespace) -> int:
    """Run the evaluation that the command line asks for and return the exit status."""
    for url in options.urls:
        kept_copy(url)
    sources = _sources(options)
    plan = plan_evaluation(
        options.prediction, options.truth, _settings(options, sources), options.limit, options.list, sources
    )
    inputs = {"prediction": str(options.prediction), "truth": str(options.truth)}
    if sources:
        inputs["pictures"] = str(sources.pictures)
        inputs["images"] = str(sources.images or "")
    header = RunHeader(asdict(plan.settings), asdict(plan.scenes), inputs)
    is_part = options.world_size > 1
    path = records_path(options.output, options.rank if is_part else None) if options.output else None
    part = plan.part(options.rank, options.world_size)
    with RecordStore(path, header) as store:
        records = _collect(part, store, options)
    if is_part:
        print(f"{len(records)} of {len(plan.pairs)} scenes in {path}; join the parts with: evaluate.py merge")
        return _status(options, any(record["error"] for record in records))
    report = build_report(records, plan.settings, plan.scenes, inputs)
    write_reports(report, options)
    return _status(options, bool(report["failures"]))


def _status(options: argparse.Namespace, is_incomplete: bool) -> int:
    return 1 if options.strict and is_incomplete else 0


def _settings(options: argparse.Namespace, sources: AppearanceSources | None) -> EvaluationSettings:
    limits = {"max_iterations": options.max_iterations, "tolerance": options.tolerance}
    paper = PaperSettings(
        AlignmentSettings(options.aligner, **limits), AlignmentSettings(options.object_aligner, **limits)
    )
    return EvaluationSettings(
        options.num_points,
        options.fscore_threshold,
        AlignmentSettings(options.alignment, **limits),
        protocols=PROTOCOLS if options.protocol == "both" else (options.protocol,),
        paper=replace(paper, levels=(options.levels,)) if options.levels else paper,
        appearance=sources.settings(options.render_samples) if sources else None,
        physics=options.physics,
    )


def _sources(options: argparse.Namespace) -> AppearanceSources | None:
    if not options.appearance:
        return None
    networks = NetworkPaths(options.lpips, options.clip, options.dinov2, options.inception)
    pictures = options.pictures or options.output.with_suffix(".pictures")
    sources = guess_sources(options.truth, pictures, options.images, networks)
    sources = replace(sources, renderer=options.renderer, blender=options.blender)
    return replace(sources, images=None) if options.no_photo else sources


def _collect(plan: EvaluationPlan, store: RecordStore, options: argparse.Namespace) -> list[Record]:
    """Evaluate where the command line says and return the records in the order of the plan."""
    records: dict[str, Record] = {}

    def run(tasks: Sequence[Task], work: Work) -> Iterator[TaskRecord]:
        journal = (
            options.output.with_suffix(".tasks.jsonl") if options.output and options.world_size == 1 else None
        )
        work = WorkWithCopies(work, options.urls) if options.urls else work
        return run_tasks(options.runs_on, tasks, work, options, journal, what="scene", total=len(tasks))

    for record in iterate_records(plan, store, run):
        records[record["id"]] = record
        for line in filter(None, [record["error"], *record["warnings"]]):
            _LOG.warning("%s", line)
    if absent := [pair.scene_id for pair in plan.pairs if pair.scene_id not in records]:
        raise EvaluationError(
            f"{len(absent)} scenes are not evaluated, the first is {absent[0]!r}; run again to go on"
        )
    return [records[pair.scene_id] for pair in plan.pairs]


def write_reports(report: dict[str, Any], options: argparse.Namespace) -> None:
    """Write what the command line asks for, and print the figures that count most, or all tables."""
    if options.output:
        write_json(options.output, report)
    if options.csv:
        write_csv(options.output.with_suffix(".csv"), report)
    if options.markdown:
        write_markdown(options.output.with_suffix(".md"), report)
    if options.verbose:
        print(format_report(report))
    else:
        where = f"all figures: {options.output}" if options.output else "all figures: --output, --markdown"
        print(f"{format_headline(report)}\n\n{where}; --verbose prints them", flush=True)
    if options.html:
        write_page(options.html, report, options.workers or WORKERS)


def merge(arguments: Sequence[str], prog: str | None) -> int:
    """Join the parts of a run that several processes or hosts have evaluated."""
    parser = CommandParser("Join the parts of a run into one report.", f"{prog or 'evaluate.py'} merge")
    add_reports(parser)
    parser.add_argument("--workers", type=worker_count, default=WORKERS, help="processes (%(default)s)")
    options = parser.parse_args(arguments)
    if options.output is None:
        parser.error("the following arguments are required: --output")
    check_reports(parser, options)
    header, records = merge_records(options.output)
    write_reports(build_report(records, header.settings, header.scenes, header.inputs), options)
    return 0


def compare(arguments: Sequence[str], prog: str | None) -> int:
    """Print the paired differences of two reports."""
    parser = CommandParser("Compare two reports, scene by scene.", prog)
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("A", "B"), required=True)
    options = parser.parse_args(arguments)
    print(format_differences(compare_reports(*map(read_report, options.compare))))
    return 0


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return its exit status; faults of the input end in one line."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    given = list(sys.argv[1:] if arguments is None else arguments)
    output = None
    try:
        if given[:1] == ["merge"]:
            return merge(given[1:], prog)
        if "--compare" in given:
            return compare(given, prog)
        if any(text.partition("=")[0] == "--photos" for text in given):
            return evaluate_photos(given, prog)
        options = parse_arguments(__doc__, given, prog)
        output = options.output
        return evaluate(options)
    except (EvaluationError, GlbError, EngineError, StoreError) as error:
        _LOG.error("%s", error)
    except OSError as error:  # faults of the scenes are told by the errors above
        _LOG.error(
            "--output %s: expected to write the report, the disk refuses (%s); check the path, the free "
            "space and the permissions",
            output,
            error,
        )
    return 2
