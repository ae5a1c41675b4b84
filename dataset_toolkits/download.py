"""Fetch and unpack a furniture data set: python dataset_toolkits/download.py sweethome3d --output-dir R."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueError
from dataset_toolkits.subsets.sweethome3d.source import (
    SourceError,
    fetch_package,
    find_libraries,
    unpack_deb,
    unpack_models,
)
from scenegen.cli.parser import CommandParser

SUBSETS = ("sweethome3d",)
logger = logging.getLogger("download")


def download_sweethome3d(root: Path, source: Path | None) -> int:
    """Unpack the indoor models below `root`, from `source` (folder or .deb) or else from the Debian package.

    Returns:
        Number of models unpacked.

    Raises:
        SourceError: nothing could be fetched or found.
    """
    if source is None:
        source = fetch_package(root / "raw")
    elif source.suffix == ".deb":
        unpack_deb(source, root / "raw" / "package")
        source = root / "raw" / "package"
    return len(unpack_models(find_libraries(source), root))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("subset", choices=SUBSETS)
    parser.add_argument("--output-dir", type=Path, required=True, help="data root, e.g. data/sweethome3d")
    parser.add_argument(
        "--source", type=Path, help="folder with .sh3f files, or the .deb; default: apt-get download"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    try:
        count = download_sweethome3d(options.output_dir, options.source)
    except (SourceError, CatalogueError) as error:
        logger.error("%s", error)
        return 1
    print(f"{count} models in {options.output_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
