"""Voxels of the surfaces of assets: python dataset_toolkits/voxelize.py SUBSET --output-dir R.

Reads ``renders/<sha256>/mesh.ply``, and writes ``voxels/<sha256>.ply``: the centres of the voxels that a
triangle touches, in a grid of 64^3.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dataset_toolkits.merging import VOXELIZED
from dataset_toolkits.steps import (
    add_selection,
    check_rank,
    run_step,
    select_rows,
    subset_parser,
    write_records,
)
from dataset_toolkits.subsets.registry import load_subset
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
    parser.add_argument(
        "--max-workers", type=positive_int, help="assets at a time; default: one for each CPU"
    )
    return check_rank(parser, parser.parse_args(arguments))


def is_wanted(row: AssetRow) -> bool:
    """Whether an asset has a mesh and no voxels yet."""
    return row.rendered and not row.voxelized


def voxelize(options: argparse.Namespace) -> int:
    """Voxelize and record."""
    rows = select_rows(options, is_wanted, "rendered and not voxelized")
    if not rows:
        return 0
    root = options.output_dir

    def run(model: Path, sha256: str) -> Mapping[str, Any]:
        path = root / "voxels" / f"{sha256}.ply"
        if not path.is_file():
            mesh = load_model(root / "renders" / sha256 / MESH_NAME)
            write_voxels(path, np.argwhere(touched_voxels(mesh.vertices, mesh.faces, RESOLUTION)))
        return {VOXELIZED: True, "num_voxels": len(read_voxels(path))}

    outcomes = load_subset(options.subset).foreach_instance(rows, root, run, options.max_workers)
    return write_records(VOXELIZED, rows, outcomes, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Voxelize and record; 1 when an asset failed."""
    options = parse_arguments(arguments)
    return run_step(lambda: voxelize(options))


if __name__ == "__main__":
    sys.exit(main())
