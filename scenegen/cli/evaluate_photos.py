"""Measure generated scenes against the masks of their photos, where there is no truth.

    evaluate.py --prediction DIR --photos DIR [--output results.json]

The photos lie as for inference, the scenes as it writes them. Rays are cast at all meshes from the camera
that each scene states, and what is seen of each object is compared with its mask. docs/photo-fit.md tells
what the figures can and cannot say.

Exit status: 0 done, 1 done but with --strict a scene is missing or failed, 2 the input cannot be evaluated.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from scenegen.cli.evaluation_options import check_reports
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.evaluation.photos import FIGURES, build_photo_report, iterate_photo_records, pair_photos
from scenegen.evaluation.records import RecordStore, records_path
from scenegen.evaluation.report import write_json
from scenegen.evaluation.tables import write_rows
from scenegen.inputs.image_files import one_line
from trellis_modules.files import atomic_write_text

_LOG = logging.getLogger("evaluate")


def evaluate_photos(arguments: Sequence[str], prog: str | None) -> int:
    """Run the evaluation that the command line asks for and return the exit status.

    Raises:
        EvaluationError: the input cannot be evaluated.
        OSError: the disk refuses.
    """
    parser = _parser(prog)
    options = parser.parse_args(arguments)
    check_reports(parser, options)
    scenes, pairs = pair_photos(options.prediction, options.photos, options.limit, options.list)
    path = records_path(options.output) if options.output else None
    records = []
    with RecordStore(path) as store, logging_redirect_tqdm():
        stream = iterate_photo_records(pairs, store)
        for record in tqdm(stream, total=len(pairs), desc="evaluate", unit="scene", disable=None):
            records.append(record)
            for line in filter(None, [record["error"], *record["warnings"]]):
                _LOG.warning("%s", line)
    inputs = {"prediction": str(options.prediction), "photos": str(options.photos)}
    report = build_photo_report(records, scenes, inputs)
    _write(report, options)
    return 1 if options.strict and report["failures"] else 0


def _parser(prog: str | None) -> argparse.ArgumentParser:
    parser = CommandParser(__doc__, prog)
    parser.add_argument("--prediction", type=Path, metavar="DIR", required=True, help="generated scenes")
    parser.add_argument("--photos", type=Path, metavar="DIR", required=True, help="their photos and masks")
    parser.add_argument("--list", type=Path, metavar="FILE", help="the scenes that count")
    parser.add_argument("--limit", type=positive_int, help="only the first scenes")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="JSON",
        help="report; finished scenes are kept beside it in <name>.records.jsonl and not redone",
    )
    parser.add_argument("--csv", action="store_true", help="also one row a scene, and one an object")
    parser.add_argument("--markdown", action="store_true", help="also the table of scenes")
    parser.add_argument("--verbose", action="store_true", help="also print each object")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a scene is missing or failed")
    return parser


def _write(report: dict[str, Any], options: argparse.Namespace) -> None:
    if options.output:
        write_json(options.output, report)
    if options.csv:
        write_rows(options.output.with_suffix(".csv"), list(_scene_rows(report)))
        write_rows(options.output.with_suffix(".objects.csv"), list(_object_rows(report)))
    if options.markdown:
        atomic_write_text(options.output.with_suffix(".md"), "\n".join(_markdown(report)) + "\n")
    print("\n".join(_text(report, options.verbose)), flush=True)


def _scene_rows(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for record in report["scenes"]:
        figures = {name: record.get(name) for name in FIGURES}
        counts = {"id": record["id"], "status": record["status"], "objects": len(record["objects"])}
        yield counts | figures | {"error": record["error"] or ""}


def _object_rows(report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for record in report["scenes"]:
        for entry in record["objects"]:
            yield {"id": record["id"], "object": entry["id"]} | {
                name: entry[name] for name in ("pixels", *FIGURES)
            }


def _header(report: dict[str, Any]) -> str:
    coverage = report["coverage"]
    return (
        f"{coverage['evaluated']} of {coverage['scenes']} scenes evaluated ({coverage['missing']} missing "
        f"and {coverage['failed']} failed count as 0, {coverage['unreadable']} unreadable do not count), "
        f"{coverage['objects']} objects; list {report['list']['name']}, "
        f"sha256 {report['list']['sha256'][:16]}"
    )


def _text(report: dict[str, Any], with_objects: bool) -> Iterator[str]:
    yield _header(report)
    yield f"{'scene':<24}{'objects':>8}" + "".join(f"{name:>16}" for name in FIGURES)
    for record in report["scenes"]:
        yield f"{one_line(record['id']):<24}{len(record['objects']):>8}" + _cells(record)
        for entry in record["objects"] if with_objects else ():
            yield f"  {'obj_' + str(entry['id']):<22}{'':>8}" + _cells(entry)
    yield f"{'mean of scenes':<32}" + "".join(
        f"{_number(report['summary'][name]['mean']):>16}" for name in FIGURES
    )


def _cells(figures: dict[str, Any]) -> str:
    return "".join(f"{_number(figures.get(name)):>16}" for name in FIGURES)


def _markdown(report: dict[str, Any]) -> Iterator[str]:
    yield _header(report) + "\n"
    yield f"| scene | objects | {' | '.join(FIGURES)} |"
    yield f"|---|---:|{'---:|' * len(FIGURES)}"
    for record in report["scenes"]:
        cells = " | ".join(_number(record.get(name)) for name in FIGURES)
        yield f"| {one_line(record['id'])} | {len(record['objects'])} | {cells} |"
    means = " | ".join(_number(report["summary"][name]["mean"]) for name in FIGURES)
    yield f"| mean of scenes | | {means} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
