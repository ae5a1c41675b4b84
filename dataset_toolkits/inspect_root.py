"""Say what a data root has and what in it is broken: python dataset_toolkits/inspect_root.py ROOT

Counts assets and scenes, names missing and cut-off files and rows that cannot be used, looks whether the
poses of each photo put its objects upright, on one floor and apart, and draws a contact sheet. The exit
status is 1 when something is broken; doubtful poses are only listed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from dataset_toolkits.photos.contact_sheet import contact_sheet
from dataset_toolkits.photos.inspection import doubtful_scenes, inspect_root
from dataset_toolkits.steps import run_step
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import whole_number
from scenegen.datasets.metadata import ASSETS_NAME, read_assets
from trellis_modules.files import atomic_write


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("root", type=Path, metavar="ROOT", help="data root")
    parser.add_argument("--sheet", type=Path, help="contact sheet; default: ROOT/contact_sheet.png")
    parser.add_argument("--no-sheet", action="store_true", help="draw no contact sheet")
    parser.add_argument("--list", type=whole_number, default=20, help="lines of each kind (%(default)s)")
    return parser.parse_args(arguments)


def inspect(options: argparse.Namespace) -> int:
    """Look, report and draw; the exit status.

    Raises:
        MetadataError: there is no table.
        OSError: the sheet cannot be written.
    """
    found = inspect_root(options.root, lambda items: tqdm(items, leave=False, disable=None))
    print("\n".join(found.lines))
    print_listed("photos to look at", doubtful_scenes(found), options.list)
    for kind, problems in found.problems.items():
        print_listed(kind, problems, options.list)
    if not options.no_sheet:
        assets = read_assets(options.root / ASSETS_NAME, lambda error: None)  # the inspection named it
        sheet = contact_sheet(options.root, found.scenes, assets)
        if sheet is not None:
            path = options.sheet or options.root / "contact_sheet.png"
            with atomic_write(path) as temporary:
                sheet.save(temporary, format="PNG")
            print(f"contact sheet: {path}")
    return 1 if found.problems else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Look and report; 1 when something is broken or there is no table."""
    options = parse_arguments(arguments)
    return run_step(lambda: inspect(options))


def print_listed(title: str, lines: Sequence[str], most: int) -> None:
    """Print the first lines of a list, and how many there are."""
    if lines:
        print(f"{title}: {len(lines)}")
        print("\n".join(f"  {line}" for line in lines[:most]))
        if len(lines) > most:
            print(f"  and {len(lines) - most} more (--list)")


if __name__ == "__main__":
    sys.exit(main())
