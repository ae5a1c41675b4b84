"""Fetch and unpack a furniture data set: python -m dataset_toolkits.download sweethome3d --output-dir R."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueError
from dataset_toolkits.subsets.sweethome3d.data_set import download
from dataset_toolkits.subsets.sweethome3d.source import SourceError
from scenegen.cli.parser import CommandParser

SUBSETS = ("sweethome3d",)
logger = logging.getLogger("download")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("subset", choices=SUBSETS)
    parser.add_argument("--output-dir", type=Path, required=True, help="data root, e.g. data/sweethome3d")
    parser.add_argument(
        "--source", type=Path, help="folder with .sh3f files, or the .deb; default: apt-get download"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch, unpack and count; 1 when there is nothing to unpack."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        count = download(options.output_dir, options.source)
    except (SourceError, CatalogueError) as error:
        logger.error("%s", error)
        return 1
    print(f"{count} models in {options.output_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
