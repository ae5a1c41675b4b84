"""Put models below a data root: python dataset_toolkits/download.py 3D-FUTURE --output-dir R."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from dataset_toolkits.merging import DOWNLOADED
from dataset_toolkits.steps import (
    add_selection,
    check_rank,
    run_step,
    select_rows,
    subset_parser,
    until_too_many_failed,
    write_records,
)
from dataset_toolkits.subsets.instances import Outcome
from dataset_toolkits.subsets.registry import load_subset
from scenegen.cli.types import whole_number
from scenegen.stores.store import Store


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; the source adds its own options."""
    parser = subset_parser(__doc__, arguments)
    add_selection(parser)
    parser.add_argument(
        "--max-failures", type=whole_number, metavar="N", help="stop when more than N assets failed"
    )
    return check_rank(parser, parser.parse_args(arguments))


def download(options: argparse.Namespace) -> int:
    """Fetch the models that have no path yet."""
    rows = select_rows(options, lambda row: not row.local_path, "listed and not downloaded")
    if not rows:
        return 0
    outcomes = load_subset(options.subset).download(rows, options.output_dir, options)
    if options.root_url is not None:
        outcomes = delivered(outcomes, options)
    with logging_redirect_tqdm():
        shown = tqdm(outcomes, desc=DOWNLOADED, total=len(rows), unit="asset", disable=None)
        return write_records(DOWNLOADED, rows, until_too_many_failed(shown, options.max_failures), options)


def delivered(outcomes: Iterable[Outcome], options: argparse.Namespace) -> Iterator[Outcome]:
    """Outcomes whose models are in the store, the model file last.

    Raises:
        StoreError: the store cannot be written to.
    """
    store, root = Store(options.root_url), options.output_dir
    for outcome in outcomes:
        if not outcome.error:
            model = PurePosixPath(outcome.values["local_path"])
            files = [path.relative_to(root).as_posix() for path in (root / model.parent).rglob("*")]
            files = [name for name in files if (root / name).is_file()]
            for name in sorted(files, key=lambda name: name == str(model)):
                store.deliver(root, name)
        yield outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, unpack and record; 1 when a model failed or there is nothing to unpack."""
    options = parse_arguments(arguments)
    return run_step(lambda: download(options), options=options)


if __name__ == "__main__":
    sys.exit(main())
