"""The steps that draw assets: their options, the engine, and what counts as done."""

from __future__ import annotations

import argparse
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dataset_toolkits.asset_views import View, view_generator
from dataset_toolkits.asset_work import MODEL_FOLDER, AssetFunction, AssetStep, run_assets
from dataset_toolkits.ray_cast_asset import draw_asset
from dataset_toolkits.steps import select_rows
from dataset_toolkits.subsets.registry import load_subset
from safe_files.json_reader import read_json
from scenegen.blender.program import SCRIPTS, BlenderError, default_blender, run_blender
from scenegen.cli.engine_options import ENGINES as WHERE
from scenegen.cli.engine_options import ChooseEngine, add_engine_arguments
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
        dest="drawn_by",
        action=ChooseEngine,
        choices=(*ENGINES, *WHERE),
        default=ENGINES[0],
        help=f"CYCLES draws in Blender, {EMBREE} without it, more simply; default: {ENGINES[0]}. Also where: "
        "processes of this machine (local), or a Ray cluster (ray); give it twice for both",
    )
    parser.add_argument(
        "--resolution", type=positive_int, default=resolution, help=f"pixels per side; default: {resolution}"
    )
    parser.add_argument(
        "--samples", type=positive_int, default=128, help="CYCLES: paths a pixel; default: 128"
    )
    add_engine_arguments(parser, min(MAX_WORKERS, os.cpu_count() or 1), "--max-workers", with_engine=False)
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
    models = load_subset(options.subset).model_files(rows)
    drawing = _Drawing(options, kind, folder, make_views, with_mesh, models)
    step = AssetStep(kind, drawing.load, (MODEL_FOLDER,), (f"{folder}/{{}}",))
    return run_assets(step, rows, options)


@dataclass(frozen=True)
class _Drawing:
    """What is drawn of every asset, and how; see `render_step`.

    Attributes:
        models: path of the model below the data root, by key.
    """

    options: argparse.Namespace
    kind: str
    folder: str
    make_views: ViewMaker
    with_mesh: bool
    models: Mapping[str, str]

    def load(self) -> AssetFunction:
        return self.draw

    def draw(self, row: AssetRow) -> Mapping[str, Any]:
        """Draw an asset unless that is done."""
        root, sha256 = self.options.output_dir, row.sha256
        if not self.models[sha256]:
            raise ValueError("no local_path; run download, then build_metadata")
        target = root / self.folder / sha256
        if not is_drawn(target, self.with_mesh):
            model = root / self.models[sha256]
            if not model.is_file():
                raise ValueError(f"{model}: expected the model file, found none; run download again")
            views = self.make_views(self.options.num_views, view_generator(self.kind, sha256))
            log = root / ".cache" / "logs" / f"{self.kind}_{sha256}.log"
            with atomic_folder(target) as part:
                _draw(self.options, model, views, part, log, self.with_mesh)
        return {self.kind: True}


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
    if options.drawn_by == EMBREE:
        draw_asset(model, views, folder, options.resolution, with_mesh)
        return
    job = {
        "object": str(model.resolve()),
        "views": [asdict(view) for view in views],
        "output_folder": str(folder.resolve()),
        "resolution": options.resolution,
        "engine": options.drawn_by,
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
