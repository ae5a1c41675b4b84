"""Prepare meshes, write metadata.csv: python -m dataset_toolkits.build_metadata sweethome3d --output-dir R.

Safe to run again: models that are prepared already are only read.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dataset_toolkits.download import SUBSETS
from dataset_toolkits.subsets.sweethome3d.attribution import attribution_markdown
from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueError
from dataset_toolkits.subsets.sweethome3d.data_set import build_metadata
from dataset_toolkits.subsets.sweethome3d.metadata import read_metadata
from dataset_toolkits.subsets.sweethome3d.source import SourceError
from scenegen.cli.parser import CommandParser

logger = logging.getLogger("build_metadata")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("subset", choices=SUBSETS)
    parser.add_argument("--output-dir", type=Path, required=True, help="data root, e.g. data/sweethome3d")
    parser.add_argument(
        "--source", type=Path, help="folder with .sh3f files; default: <output_dir>/raw/package"
    )
    parser.add_argument(
        "--attribution", type=Path, help="also write the credits to this file (ATTRIBUTION.md)"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare, list and count; 1 when a model or everything failed."""
    options = parse_arguments(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    logging.getLogger("trimesh").setLevel(logging.WARNING)  # it tells of every polygon it triangulates
    root = options.output_dir
    try:
        count, failed = build_metadata(root, options.source or root / "raw" / "package")
    except (SourceError, CatalogueError) as error:
        logger.error("%s", error)
        return 1
    table = read_metadata(root)
    if options.attribution:
        options.attribution.write_text(attribution_markdown(table), encoding="utf-8")
    print(f"{count} models in {root / 'metadata.csv'}, {len(failed)} failed")
    print("yaw symmetry:", dict(Counter(table["symmetry"])))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
