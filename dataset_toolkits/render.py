"""Draw assets from all around, with their meshes: python dataset_toolkits/render.py SUBSET --output-dir R.

Writes ``renders/<sha256>/``. Three views are enough where only the mesh is needed, for voxels; features need
about 150.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dataset_toolkits.asset_views import multiview
from dataset_toolkits.asset_work import check_engine
from dataset_toolkits.merging import RENDERED
from dataset_toolkits.rendering import add_rendering, render_step
from dataset_toolkits.steps import add_selection, check_rank, run_step, subset_parser

NUM_VIEWS, RESOLUTION = 3, 512


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = subset_parser(__doc__, arguments)
    add_selection(parser)
    add_rendering(parser, NUM_VIEWS, RESOLUTION)
    options = check_rank(parser, parser.parse_args(arguments))
    return check_engine(parser, options, in_threads=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and record; 1 when an asset failed."""
    options = parse_arguments(arguments)
    return run_step(
        lambda: render_step(
            options,
            RENDERED,
            "renders",
            multiview,
            lambda row: bool(row.local_path) and not row.rendered,
            True,
        ),
        options=options,
    )


if __name__ == "__main__":
    sys.exit(main())
