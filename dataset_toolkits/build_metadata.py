"""List the assets of a source, or take in what the steps recorded: metadata.csv and statistics.txt.

``python dataset_toolkits/build_metadata.py 3D-FUTURE --output-dir R``, first and again after every step.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from dataset_toolkits.merging import FIELDS, failures, merge_records, set_from_files, statistics
from dataset_toolkits.steps import add_output_dir, read_table, run_step, subset_parser
from dataset_toolkits.subsets.registry import load_subset
from scenegen.cli.store_options import use_mirror
from scenegen.datasets.metadata import ASSETS_NAME, write_assets
from scenegen.datasets.records import move_to_merged
from trellis_modules.files import atomic_write_text


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; the source adds its own options."""
    parser = subset_parser(__doc__, arguments)
    add_output_dir(parser, may_be_stored=True)
    parser.add_argument(
        "--field",
        default="all",
        help=f"with --from-file: comma list of {', '.join(FIELDS)} and names of models; default: all",
    )
    parser.add_argument(
        "--from-file", action="store_true", help="also believe files that are there without a record"
    )
    options = parser.parse_args(arguments)
    options.root_url = use_mirror(options, "output_dir")
    if options.from_file and options.root_url is not None:
        parser.error("--from-file: looks at files on the disk; leave it out for a root in an object store")
    return options


def build(options: argparse.Namespace) -> int:
    """Read or fetch the table, merge the records, write table and statistics."""
    root = options.output_dir
    if os.path.lexists(root / ASSETS_NAME):  # also a folder or a broken link, which the table would replace
        rows = read_table(root, strict=True)
    else:
        rows = load_subset(options.subset).get_metadata(root, options)
    rows, records = merge_records(root, rows)
    if options.from_file:
        rows = set_from_files(root, rows, None if options.field == "all" else set(options.field.split(",")))
    write_assets(rows, root / ASSETS_NAME)
    move_to_merged(records, root)  # not before: the table has them now
    text = statistics(rows)
    atomic_write_text(root / "statistics.txt", text)
    print(text, end="")
    for kind, count in failures(root, rows).items():
        print(f"{count} assets failed in {kind}, see {root}/failed_{kind}_*.csv")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """List or merge; 1 when there is nothing to list."""
    options = parse_arguments(arguments)
    return run_step(lambda: build(options), options=options)


if __name__ == "__main__":
    sys.exit(main())
