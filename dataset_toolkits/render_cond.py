"""Draw assets for image conditioning: python dataset_toolkits/render_cond.py SUBSET --output-dir R.

Writes ``renders_cond/<sha256>/``: views all around, of different fields of view, that the asset fills.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dataset_toolkits.asset_views import conditioning_views
from dataset_toolkits.asset_work import check_engine
from dataset_toolkits.merging import COND_RENDERED
from dataset_toolkits.rendering import add_rendering, render_step
from dataset_toolkits.steps import add_selection, check_rank, run_step, subset_parser
from scenegen.datasets.metadata import AssetRow

NUM_VIEWS, RESOLUTION = 5, 1024


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = subset_parser(__doc__, arguments)
    add_selection(parser)
    add_rendering(parser, NUM_VIEWS, RESOLUTION)
    options = check_rank(parser, parser.parse_args(arguments))
    return check_engine(parser, options, in_threads=True)


def is_wanted(row: AssetRow) -> bool:
    """Whether an asset is there and not drawn yet."""
    return bool(row.local_path) and not row.cond_rendered


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw and record; 1 when an asset failed."""
    options = parse_arguments(arguments)
    return run_step(
        lambda: render_step(options, COND_RENDERED, "renders_cond", conditioning_views, is_wanted, False),
        options=options,
    )


if __name__ == "__main__":
    sys.exit(main())
