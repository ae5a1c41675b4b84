"""What the steps of the asset road share: their options, their choice of assets, and their records."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

from dataset_toolkits.stored_root import stored_tables
from dataset_toolkits.subsets.instances import Outcome, SubsetError
from dataset_toolkits.subsets.registry import SUBSETS, load_subset
from safe_files.regular import shown
from scenegen.batch.engines.tasks import EngineError
from scenegen.cli.parser import CommandParser
from scenegen.cli.store_options import path_or_url, use_mirror
from scenegen.cli.types import positive_int, whole_number
from scenegen.datasets.metadata import ASSETS_NAME, AssetRow, read_assets
from scenegen.datasets.records import RecordWriter, shard
from scenegen.datasets.tables import MetadataError
from scenegen.stores.urls import StoreError, StoreUrl, is_url
from trellis_modules.checkpoint import CheckpointError

logger = logging.getLogger(__name__)

_INTERRUPTED = 130  # as shells report it

STEP_ERRORS = (MetadataError, SubsetError, CheckpointError, EngineError, StoreError, OSError)
"""What ends a step, with one line that says what to do."""


def subset_parser(description: str, arguments: Sequence[str] | None) -> CommandParser:
    """A parser whose first argument is the name of a source, with the options of the one that is named."""
    parser = CommandParser(description)
    parser.add_argument("subset", choices=tuple(SUBSETS), help="where the assets come from")
    given = sys.argv[1:] if arguments is None else arguments
    if named := next((text for text in given if text in SUBSETS), None):
        load_subset(named).add_args(parser)
    return parser


def data_root(text: str) -> Path:
    """A folder that is there or can be made."""
    if is_url(text):
        raise argparse.ArgumentTypeError(f"expected a folder, got {shown(text)}; this step works on the disk")
    path = Path(text)
    if any(parent.is_file() for parent in (path, *path.parents)):
        raise argparse.ArgumentTypeError(f"expected a folder, got {text!r}, which is or lies in a file")
    return path


def stored_data_root(text: str) -> Path | StoreUrl:
    """A data root, also in an object store."""
    return path_or_url(text) if is_url(text) else data_root(text)


def add_output_dir(parser: CommandParser, *, may_be_stored: bool = False) -> None:
    """Declare the data root, which for some steps may be in an object store."""
    parser.add_argument(
        "--output-dir",
        type=stored_data_root if may_be_stored else data_root,
        required=True,
        help="data root, where everything is kept" + (", also by URL" if may_be_stored else ""),
    )


def add_selection(parser: CommandParser) -> None:
    """Declare which assets a process works on."""
    add_output_dir(parser, may_be_stored=True)
    parser.add_argument(
        "--filter-low-aesthetic-score",
        type=float,
        metavar="SCORE",
        help="only assets whose aesthetic_score is known and at least this",
    )
    parser.add_argument(
        "--instances",
        metavar="FILE_OR_LIST",
        help="only these assets, whatever the table says: a file with one sha256 a line, or a comma list",
    )
    parser.add_argument("--rank", type=whole_number, default=0, help="number of this process")
    parser.add_argument("--world-size", type=positive_int, default=1, help="processes that share the assets")


def check_rank(parser: CommandParser, options: argparse.Namespace) -> argparse.Namespace:
    """Refuse a rank that is not one of the processes, and use the local folder of a root in a store."""
    options.root_url = use_mirror(options, "output_dir")
    if options.rank >= options.world_size:
        parser.error(f"--rank: expected 0 to {options.world_size - 1}, got {options.rank}")
    return options


def read_table(output_dir: Path, *, strict: bool = False) -> list[AssetRow]:
    """The assets of a data root.

    Args:
        output_dir: the root.
        strict: whether a line that cannot be used is an error, as it is for whoever writes the table again;
            otherwise it is named and left out.

    Raises:
        MetadataError: there is no table, or a bad line in it.
    """
    path = output_dir / ASSETS_NAME
    if not os.path.lexists(path):
        raise MetadataError(
            f"{path}: no metadata; run "
            f"python dataset_toolkits/build_metadata.py SUBSET --output-dir {output_dir}"
        )
    return read_assets(path, None if strict else lambda error: logger.error("%s", error))


def select_rows(
    options: argparse.Namespace, wanted: Callable[[AssetRow], bool], what: str
) -> Sequence[AssetRow]:
    """The assets that this process works on.

    Args:
        options: of `add_selection`.
        wanted: whether the table says that an asset is ready for this step and not yet through it.
        what: the same in words.

    Raises:
        MetadataError: no table, or an asset of ``--instances`` is not in it.
    """
    rows = read_table(options.output_dir)
    if options.instances is not None:
        chosen = _named(rows, _listed(options.instances), options)
    else:
        chosen = [
            row for row in rows if wanted(row) and is_beautiful(row, options.filter_low_aesthetic_score)
        ]
    if not chosen:
        print(f"nothing to do: none of {len(rows)} assets is {what}; run build_metadata after each step")
    return shard(chosen, options.rank, options.world_size)


def write_records(
    kind: str, rows: Sequence[AssetRow], outcomes: Iterable[Outcome], options: argparse.Namespace
) -> int:
    """Record the outcome of every asset, and say how many there are.

    Returns:
        0, or 1 when an asset failed; the exit status.

    Raises:
        OSError: a record could not be written.
    """
    keys = [row.sha256 for row in rows]
    with RecordWriter(options.output_dir, kind, options.rank, keys) as records:
        for outcome in outcomes:
            if not outcome.error:
                records.done(outcome.sha256, **outcome.values)
                continue
            logger.error("%s: %s", outcome.sha256, outcome.error)
            records.failed(outcome.sha256, outcome.error)
    failed = f", {len(records.failures)} failed, see {records.failed_path}" if records.failures else ""
    print(f"{records.path if records.num_done else kind}: {records.num_done} of {len(rows)} assets{failed}")
    return 1 if records.failures else 0


def until_too_many_failed(outcomes: Iterable[Outcome], most: int | None) -> Iterator[Outcome]:
    """Outcomes, up to the one by which more than so many failed; None sets no limit."""
    failed = 0
    for outcome in outcomes:
        yield outcome
        failed += bool(outcome.error)
        if most is not None and failed > most:
            logger.error("more than %d assets failed (--max-failures); stopped", most)
            return


def run_step(
    step: Callable[[], int],
    *errors: type[Exception],
    options: argparse.Namespace | None = None,
    files: Sequence[str] = (),
) -> int:
    """The exit status of a step: 1 with one line when one of `STEP_ERRORS`, or of ``errors``, ends it.

    Args:
        step: does it.
        errors: further ones.
        options: of a step whose data root may be in an object store, see `stored_tables`.
        files: further ones of that root.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("trimesh").setLevel(logging.WARNING)  # it tells of every polygon it triangulates
    try:
        with nullcontext() if options is None else stored_tables(options, files):
            return step()
    except (*STEP_ERRORS, *errors) as error:
        url = getattr(options, "root_url", None)
        logger.error("%s", error if url is None else str(error).replace(str(options.output_dir), str(url)))
        return 1
    except KeyboardInterrupt:
        logger.error("interrupted; what is done is recorded, run the same command to go on")
        return _INTERRUPTED


def is_beautiful(row: AssetRow, least: float | None) -> bool:
    """Whether the aesthetic score of an asset is known and high enough; None asks for no score."""
    return least is None or (row.aesthetic_score is not None and row.aesthetic_score >= least)


def _listed(instances: str) -> list[str]:
    path = Path(instances)
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else instances.replace(",", "\n")
    except UnicodeDecodeError as error:
        raise MetadataError(f"{path}: --instances: expected text with one sha256 a line") from error
    return list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def _named(rows: Sequence[AssetRow], keys: Sequence[str], options: argparse.Namespace) -> list[AssetRow]:
    by_key = {row.sha256: row for row in rows}
    if unknown := [key for key in keys if key not in by_key]:
        raise MetadataError(
            f"{options.output_dir / ASSETS_NAME}: --instances: {len(unknown)} of {len(keys)} assets are not "
            f"in the table, first {unknown[0]!r}; give a file or keys of the column sha256"
        )
    return [by_key[key] for key in keys]
