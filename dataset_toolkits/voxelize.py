"""Voxels of the surfaces of assets: python dataset_toolkits/voxelize.py SUBSET --output-dir R.

Reads ``renders/<sha256>/mesh.ply``, and writes ``voxels/<sha256>.ply``: the centres of the voxels that a
triangle touches, in a grid of 64^3.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dataset_toolkits.asset_work import AssetStep, check_engine, run_assets
from dataset_toolkits.merging import VOXELIZED
from dataset_toolkits.steps import add_selection, check_rank, run_step, select_rows, subset_parser
from scenegen.cli.engine_options import add_engine_arguments
from scenegen.cli.types import positive_int
from scenegen.datasets.asset_pictures import MESH_NAME
from scenegen.datasets.metadata import AssetRow
from scenegen.datasets.voxel_files import RESOLUTION, read_voxels, write_voxels
from scenegen.synthesis.pictures.render_mesh import load_model
from trellis_modules.representations.voxels import touched_voxels


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = subset_parser(__doc__, arguments)
    add_selection(parser)
    parser.add_argument(
        "--num-views", type=positive_int, default=150, help="not used; published commands have it"
    )
    add_engine_arguments(parser, os.cpu_count() or 1, "--max-workers")
    options = check_rank(parser, parser.parse_args(arguments))
    return check_engine(parser, options, in_threads=True)


def is_wanted(row: AssetRow) -> bool:
    """Whether an asset has a mesh and no voxels yet."""
    return row.rendered and not row.voxelized


def voxelize_asset(root: Path, row: AssetRow) -> Mapping[str, Any]:
    """Voxelize the mesh of an asset, unless that is done; the fields of its record.

    Raises:
        ValueError: its mesh cannot be read.
    """
    path = root / "voxels" / f"{row.sha256}.ply"
    if not path.is_file():
        mesh = load_model(root / "renders" / row.sha256 / MESH_NAME)
        write_voxels(path, np.argwhere(touched_voxels(mesh.vertices, mesh.faces, RESOLUTION)))
    return {VOXELIZED: True, "num_voxels": len(read_voxels(path))}


def voxelize(options: argparse.Namespace) -> int:
    """Voxelize and record."""
    rows = select_rows(options, is_wanted, "rendered and not voxelized")
    if not rows:
        return 0
    step = AssetStep(
        VOXELIZED,
        partial(partial, voxelize_asset, options.output_dir),
        (f"renders/{{}}/{MESH_NAME}",),
        ("voxels/{}.ply",),
    )
    return run_assets(step, rows, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Voxelize and record; 1 when an asset failed."""
    options = parse_arguments(arguments)
    return run_step(lambda: voxelize(options), options=options)


if __name__ == "__main__":
    sys.exit(main())
