"""Change one object and keep the rest: what stays, what it costs, and how long it takes.

    python -m benchmarks.reroll --root data/scenes --output data/reroll
    python -m benchmarks.reroll --root data/scenes --output data/reroll_textured --textured --objects 1

For each test scene every object is made anew once (with ``--objects N`` the next N, from another one on in
each scene), and one object, the smallest that is not the query, is left out and added again by its mask.
The files of the other objects are compared byte for byte, and box IoU (as of evaluate.py) is that of the
whole scene. Finished scenes are kept in ``<output>/records.jsonl``, so that a second run goes on where the
first one ended. Times depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.kept_records import measure_missing
from benchmarks.placement_refinement import box_overlaps, load_result
from scenegen.cli.bundled import bundled
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.evaluation.loading import find_scene_files
from scenegen.export.scene_files import write_scene
from scenegen.hub.releases import SMALL_MODEL
from scenegen.inputs.objects import without
from scenegen.inputs.scene_folder import read_scene
from scenegen.pipelines.pipeline import SceneGenPipeline
from scenegen.pipelines.result import SceneResult
from scenegen.pipelines.settings import RunSettings

_FORMATS = ("objects", "poses")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the scenes that are not measured yet, and print a table of all of them."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    options = parse_arguments(arguments)
    truths = find_scene_files(options.root / f"scene_{options.set}")
    rows = {name: row for row, name in enumerate(list(truths)[: options.limit])}
    pipeline = cache(lambda: SceneGenPipeline.from_pretrained(options.checkpoint, options.device))
    records = measure_missing(
        options.output / "records.jsonl",
        rows,
        lambda name: measure(pipeline(), load_result(truths[name]), name, rows[name], options),
    )
    print(table(records))
    return 0


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--root", type=Path, required=True, metavar="DIR")
    parser.add_argument("--set", default="test", help="(%(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--checkpoint", type=Path, default=Path(bundled(SMALL_MODEL)), metavar="DIR")
    parser.add_argument("--device", default="cpu", help="(%(default)s)")
    parser.add_argument("--limit", type=positive_int, default=20, help="scenes (%(default)s)")
    parser.add_argument("--objects", type=positive_int, help="made anew in each scene; default: all")
    parser.add_argument("--textured", action="store_true", help="with the appearance stage")
    parser.add_argument("--alignment", default="best", help="as of evaluate.py (%(default)s)")
    return parser.parse_args(arguments)


def measure(
    pipeline: SceneGenPipeline, truth: SceneResult, name: str, row: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Change objects of one scene, one after the other and each from the scene as it was made.

    Args:
        row: of the scene in the list; the object to begin with.
    """
    views = read_scene(options.root / f"masked_images_{options.set}" / name)
    settings = RunSettings(appearance=options.textured)
    made = pipeline.run(views, settings)
    files, before = digests(made), overlap(truth, made, options)
    rerolled = []
    first = row % len(made.object_ids)
    for number in (*made.object_ids[first:], *made.object_ids[:first])[: options.objects]:
        start, began = time.perf_counter(), time.process_time()
        changed = pipeline.reroll(made, [number])
        seconds, cpu = time.perf_counter() - start, time.process_time() - began
        now = digests(changed)
        kept = all(now[node] == digest for node, digest in files.items() if node != f"obj_{number}")
        entry = {"object": number, "seconds": seconds, "cpu_seconds": cpu, "kept": kept}
        rerolled.append({**entry, "iou": overlap(truth, changed, options)})
    record = {"scene": name, "iou": before, "rerolled": rerolled}
    targets = [number for number in made.object_ids if number != made.query_id]
    if targets:
        masks = dict(zip(views[0].object_ids, views[0].masks, strict=True))
        added = min(targets, key=lambda number: int(masks[number].sum()))
        fewer = pipeline.run([without(view, {added: "forgotten"}) for view in views], settings)
        again = pipeline.reroll(fewer, masks={added: masks[added]}, settings=settings)
        record["added_iou"] = overlap(truth, again, options)
    return record


def digests(result: SceneResult) -> dict[str, str]:
    """Of each object, what its file and its pose are."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "scene"
        write_scene(result, folder, _FORMATS)
        found = {}
        for item in result.objects:
            content = (folder / f"{item.node}.glb").read_bytes() if item.mesh is not None else b""
            pose = item.pose.to(torch.float32).numpy().tobytes()
            found[item.node] = hashlib.sha256(content + pose).hexdigest()
        return found


def overlap(truth: SceneResult, result: SceneResult, options: argparse.Namespace) -> float:
    """Mean box IoU of the true objects."""
    return float(np.mean(box_overlaps(truth, result, options.alignment)[0]))


def table(records: Sequence[dict[str, Any]]) -> str:
    """What was measured, as a Markdown table."""
    changes = [(record, each) for record in records for each in record["rerolled"]]
    seconds, cpu = ([each[name] for _, each in changes] for name in ("seconds", "cpu_seconds"))
    differences = [each["iou"] - record["iou"] for record, each in changes]
    added = [record["added_iou"] - record["iou"] for record in records if "added_iou" in record]
    rows = [
        ("scenes", str(len(records))),
        ("objects made anew", str(len(changes))),
        ("of these, all other objects byte for byte the same", str(sum(each["kept"] for _, each in changes))),
        ("seconds for an object, mean", f"{np.mean(seconds):.1f}"),
        ("seconds for an object, most", f"{np.max(seconds):.1f}"),
        ("seconds of one core for an object, mean", f"{np.mean(cpu):.1f}"),
        ("box IoU of the scenes as made", f"{np.mean([record['iou'] for record in records]):.3f}"),
        ("change of it by an object made anew, mean", f"{np.mean(differences):+.3f}"),
        ("scenes with an object added by its mask", str(len(added))),
        ("their box IoU against all objects at once, mean", f"{np.mean(added):+.3f}"),
    ]
    return "\n".join(["| figure | value |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])


if __name__ == "__main__":
    sys.exit(main())
