"""Put models below a data root: python dataset_toolkits/download.py 3D-FUTURE --output-dir R."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dataset_toolkits.merging import DOWNLOADED
from dataset_toolkits.steps import (
    add_selection,
    check_rank,
    run_step,
    select_rows,
    subset_parser,
    write_records,
)
from dataset_toolkits.subsets.registry import load_subset


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; the source adds its own options."""
    parser = subset_parser(__doc__, arguments)
    add_selection(parser)
    return check_rank(parser, parser.parse_args(arguments))


def download(options: argparse.Namespace) -> int:
    """Fetch the models that have no path yet."""
    rows = select_rows(options, lambda row: not row.local_path, "listed and not downloaded")
    if not rows:
        return 0
    outcomes = load_subset(options.subset).download(rows, options.output_dir, options)
    return write_records(DOWNLOADED, rows, outcomes, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, unpack and record; 1 when a model failed or there is nothing to unpack."""
    options = parse_arguments(arguments)
    return run_step(lambda: download(options))


if __name__ == "__main__":
    sys.exit(main())
