"""The steps that draw assets: their options, the engine, and what counts as done."""

from __future__ import annotations

import argparse
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dataset_toolkits.asset_views import View, view_generator
from dataset_toolkits.ray_cast_asset import draw_asset
from dataset_toolkits.steps import select_rows, write_records
from dataset_toolkits.subsets.registry import load_subset
from safe_files.json_reader import read_json
from scenegen.blender.program import SCRIPTS, BlenderError, default_blender, run_blender
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int
from scenegen.datasets.asset_pictures import MESH_NAME, TRANSFORMS_NAME
from scenegen.datasets.metadata import AssetRow
from trellis_modules.files import atomic_folder

EMBREE = "EMBREE"
ENGINES = ("CYCLES", EMBREE)
MAX_WORKERS = 8
"""Assets at a time where there are as many CPUs."""

_PNG_HEADER, _PNG_CHUNK = 8, 12  # bytes of the file's signature, and of a chunk around its data
_PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"tIME")

ViewMaker = Callable[[int, np.random.Generator], list[View]]


def add_rendering(parser: CommandParser, num_views: int, resolution: int) -> None:
    """Declare how assets are drawn."""
    parser.add_argument("--num-views", type=positive_int, default=num_views, help=f"default: {num_views}")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help=f"CYCLES draws in Blender, {EMBREE} without it, more simply; default: {ENGINES[0]}",
    )
    parser.add_argument(
        "--resolution", type=positive_int, default=resolution, help=f"pixels per side; default: {resolution}"
    )
    parser.add_argument(
        "--samples", type=positive_int, default=128, help="CYCLES: paths a pixel; default: 128"
    )
    workers = min(MAX_WORKERS, os.cpu_count() or 1)
    parser.add_argument(
        "--max-workers",
        type=positive_int,
        default=workers,
        help=f"assets at a time; here by default: {workers}",
    )
    parser.add_argument(
        "--blender",
        default=default_blender(),
        help="Blender 3.4 or newer, or a Python with the package bpy; default: SCENEGEN_BLENDER, or blender",
    )
    parser.add_argument(
        "--timeout", type=positive_int, default=1800, help="CYCLES: seconds for one asset; default: 1800"
    )


def render_step(
    options: argparse.Namespace,
    kind: str,
    folder: str,
    make_views: ViewMaker,
    wanted: Callable[[AssetRow], bool],
    with_mesh: bool,
) -> int:
    """Draw the assets that are not drawn yet.

    Args:
        options: of `add_selection` and `add_rendering`.
        kind: of the records.
        folder: below the data root.
        make_views: number of views and randomness -> cameras.
        wanted: see `select_rows`.
        with_mesh: whether ``mesh.ply`` is written too.

    Returns:
        The exit status.
    """
    rows = select_rows(options, wanted, f"downloaded and not {kind}")
    if not rows:
        return 0

    def draw(model: Path, sha256: str) -> Mapping[str, Any]:
        target = options.output_dir / folder / sha256
        if not is_drawn(target, with_mesh):
            views = make_views(options.num_views, view_generator(kind, sha256))
            log = options.output_dir / ".cache" / "logs" / f"{kind}_{sha256}.log"
            with atomic_folder(target) as part:
                _draw(options, model, views, part, log, with_mesh)
        return {kind: True}

    subset = load_subset(options.subset)
    outcomes = subset.foreach_instance(rows, options.output_dir, draw, options.max_workers)
    return write_records(kind, rows, outcomes, options)


def is_drawn(folder: Path, with_mesh: bool) -> bool:
    """Whether a folder has all pictures of its ``transforms.json``, and the mesh where one is needed."""
    try:
        frames = read_json(folder / TRANSFORMS_NAME)["frames"]
        names = [frame["file_path"] for frame in frames] + [MESH_NAME] * with_mesh
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all((folder / name).is_file() for name in names)


def _draw(
    options: argparse.Namespace, model: Path, views: list[View], folder: Path, log: Path, with_mesh: bool
) -> None:
    if options.engine == EMBREE:
        draw_asset(model, views, folder, options.resolution, with_mesh)
        return
    job = {
        "object": str(model.resolve()),
        "views": [asdict(view) for view in views],
        "output_folder": str(folder.resolve()),
        "resolution": options.resolution,
        "engine": options.engine,
        "samples": options.samples,
        "save_mesh": with_mesh,
    }
    run_blender(SCRIPTS / "render.py", job, log, options.timeout, options.blender)
    if not is_drawn(folder, with_mesh):
        raise BlenderError(f"{model}: Blender ended well and left pictures out; check its version")
    for path in folder.glob("*.png"):
        path.write_bytes(without_text(path.read_bytes()))  # the time that it took, for example


def without_text(png: bytes) -> bytes:
    """A PNG file without its texts and its date, so that what is drawn again has the same bytes."""
    kept, place = [png[:_PNG_HEADER]], _PNG_HEADER
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        end = place + length + _PNG_CHUNK
        if png[place + 4 : place + 8] not in _PNG_TEXTS:
            kept.append(png[place:end])
        place = end
    return b"".join(kept)
