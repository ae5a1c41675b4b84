"""What the confidence of objects is worth: calibrate it on validation scenes, and test it on others.

    python -m benchmarks.confidence collect --root data/scenes --set validation --output data/validation.jsonl
    python -m benchmarks.confidence fit --records data/validation.jsonl
    python -m benchmarks.confidence collect --root data/scenes --set test --output data/test.jsonl
    python -m benchmarks.confidence report --records data/test.jsonl --output data/confidence

``collect`` samples every scene several times and notes, for each object, the signs that the pipeline reads
and how wrong the object is; a second run goes on where the first one ended. ``fit`` learns what the signs are
worth and writes it into the checkpoint's ``pipeline.json``; run it again whenever the structure flow has
other weights. ``report`` prints calibration errors and what choosing the best sample gains, and draws
reliability diagrams. Without a folder scene_<set>, as of real photos, only signs are collected; for these the
mask is the truth of ``report --photos``.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.confidence_report import Record, cases_of, write_report
from benchmarks.confidence_truth import TrueScene
from safe_files.limits import MAX_CANDIDATES
from scenegen.checkpoints.roles import PIPELINE_FILE
from scenegen.checkpoints.schema import PipelineConfig
from scenegen.cli.bundled import bundled
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int, up_to
from scenegen.confidence.calibration import CAMERA_QUESTION, OBJECT_QUESTIONS, Calibration
from scenegen.confidence.fitting import fit_judgement
from scenegen.hub.releases import SMALL_MODEL
from scenegen.inputs.scene_folder import read_scene
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.settings import RunSettings
from trellis_modules.config import to_json
from trellis_modules.files import atomic_write_text

_LOG = logging.getLogger("confidence")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    options = parse_arguments(arguments)
    try:
        return STEPS[options.step](options)
    except ValueError as error:  # too few scenes
        _LOG.error("%s", error)
        return 1


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--checkpoint", type=Path, default=Path(bundled(SMALL_MODEL)), metavar="DIR")
    parser.add_argument("--root", type=Path, metavar="DIR", help="has masked_images_<set> and scene_<set>")
    parser.add_argument("--set", default="validation", help="of collect (%(default)s)")
    parser.add_argument("--records", type=Path, nargs="+", metavar="FILE", help="of fit and report")
    parser.add_argument(
        "--photos", type=Path, nargs="+", default=[], metavar="FILE", help="of report: records without truth"
    )
    parser.add_argument("--output", type=Path, metavar="PATH", help="file of collect, folder of report")
    parser.add_argument(
        "--candidates", type=up_to(MAX_CANDIDATES), default=4, help="samples a scene (%(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="of collect (%(default)s)")
    parser.add_argument("--processes", type=positive_int, default=1, help="of collect (%(default)s)")
    parser.add_argument("--limit", type=positive_int, help="of collect: only the first scenes")
    options = parser.parse_args(arguments)
    needed = {"collect": ("root", "output"), "fit": ("records",), "report": ("records", "output")}
    for name in needed[options.step]:
        if getattr(options, name) is None:
            parser.error(f"{options.step} needs --{name}")
    return options


def collect(options: argparse.Namespace) -> int:
    """Sample the scenes that are not in the output yet, and add a line for each."""
    images = options.root / f"masked_images_{options.set}"
    known = {record["scene"] for record in read_records([options.output])} if options.output.is_file() else ()
    found = sorted(path.name for path in images.iterdir() if path.is_dir())[: options.limit]
    todo = [(name, options) for name in found if name not in known]
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with options.output.open("a", encoding="utf-8") as output, _workers(options.processes) as run:
        for record in tqdm(run(_collect_scene, todo), total=len(todo), unit="scene", disable=None):
            output.write(json.dumps(record) + "\n")
            output.flush()
    _LOG.info("%d scenes in %s", len(read_records([options.output])), options.output)
    return 0


@contextmanager
def _workers(count: int) -> Iterator[Callable[..., Iterable[Record]]]:
    """A map over tasks that several processes share, or this one alone."""
    if count == 1:
        yield map
        return
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        yield pool.imap_unordered


@cache
def _pipeline(checkpoint: Path, device: str) -> SceneGenPipeline:
    torch.set_num_threads(1)
    return SceneGenPipeline.from_pretrained(checkpoint, device)


def _collect_scene(task: tuple[str, argparse.Namespace]) -> Record:
    """Signs and errors of every sample of one scene."""
    name, options = task
    pipeline = _pipeline(options.checkpoint, options.device)
    views = read_scene(options.root / f"masked_images_{options.set}" / name)
    candidates, order = pipeline.sample_candidates(views, RunSettings(candidates=options.candidates))
    folder = options.root / f"scene_{options.set}"
    truth = TrueScene.load(folder, name, order) if folder.is_dir() else None
    samples: list[dict[str, Any]] = []
    for candidate in candidates:
        objects, camera = ([], {}) if truth is None else truth.errors_of(candidate)
        samples.append(
            {
                "seed": candidate.seed,
                "signs": [_rounded(signs) for signs in candidate.signs],
                "camera_signs": _rounded(candidate.camera_signs or {}),
                "errors": [_rounded(errors) for errors in objects],
                "camera_errors": _rounded(camera),
            }
        )
    return {
        "scene": name,
        "objects": order,
        "flow": pipeline.config.structure_flow().sha256,
        "samples": samples,
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in values.items()}


def read_records(paths: Sequence[Path]) -> list[Record]:
    """The lines of files that ``collect`` wrote, in the order of their scenes."""
    records = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return sorted(records, key=lambda record: record["scene"])


def fit(options: argparse.Namespace) -> int:
    """Learn a calibration and write it into the checkpoint's description."""
    records = read_records(options.records)
    path = options.checkpoint / PIPELINE_FILE
    flow = PipelineConfig.load(options.checkpoint).structure_flow().sha256
    if flow is None or any(record["flow"] != flow for record in records):
        _LOG.error("%s: expected records of its structure flow, got others; collect them again", path)
        return 1
    calibration = Calibration(
        flow,
        len(records),
        single=_judgements(records, is_single=True),
        several=_judgements(records, is_single=False),
    )
    content = json.loads(path.read_text(encoding="utf-8"))
    content["args"]["confidence"] = to_json(calibration)
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")
    _LOG.info("%s: calibrated on %d scenes", path, len(records))
    return 0


def _judgements(records: Sequence[Record], *, is_single: bool) -> dict[str, Any]:
    return {
        question: fit_judgement(*cases_of(records, question, is_single=is_single))
        for question in (*OBJECT_QUESTIONS, CAMERA_QUESTION)
    }


def report(options: argparse.Namespace) -> int:
    """Print what the checkpoint's calibration is worth on records, and draw it."""
    calibration = PipelineConfig.load(options.checkpoint).confidence
    if calibration is None:
        _LOG.error("%s: expected a calibrated checkpoint; run fit first", options.checkpoint)
        return 1
    photos = read_records(options.photos)
    print(write_report(read_records(options.records), photos, calibration, options.output))
    return 0


STEPS = {"collect": collect, "fit": fit, "report": report}


if __name__ == "__main__":
    sys.exit(main())
