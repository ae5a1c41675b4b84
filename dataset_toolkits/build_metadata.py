"""Prepare meshes, write metadata.csv: python dataset_toolkits/build_metadata.py sweethome3d --output-dir R.

Safe to run again: models that are prepared already are only read.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from dataset_toolkits.download import SUBSETS
from dataset_toolkits.subsets.sweethome3d.attribution import attribution_markdown
from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueError
from dataset_toolkits.subsets.sweethome3d.licences import licence_of
from dataset_toolkits.subsets.sweethome3d.meshes import MeshError
from dataset_toolkits.subsets.sweethome3d.metadata import metadata_row, read_metadata, write_metadata
from dataset_toolkits.subsets.sweethome3d.prepare import prepare_model
from dataset_toolkits.subsets.sweethome3d.source import (
    SourceError,
    find_libraries,
    read_entries,
    unpack_models,
)
from scenegen.cli.parser import CommandParser
from scenegen.synthesis.furniture.split import load_split

logger = logging.getLogger("build_metadata")


def build_sweethome3d(root: Path, source: Path) -> tuple[int, list[str]]:
    """Prepare every indoor model and write `root`/metadata.csv.

    Args:
        root: data root.
        source: folder with the .sh3f libraries.

    Returns:
        Number of rows written and the ids of models that could not be prepared (logged).

    Raises:
        SourceError, CatalogueError: the libraries cannot be read.
    """
    libraries = find_libraries(source)
    paths = unpack_models(libraries, root)
    split = load_split()
    rows, failed = [], []
    for model_id, entry in tqdm(sorted(read_entries(libraries).items()), desc="models", unit="model"):
        try:
            prepared = prepare_model(root, paths[model_id], entry)
        except MeshError as error:
            logger.error("%s: left out: %s", model_id, error)
            failed.append(model_id)
            continue
        licence = licence_of(entry, (root / paths[model_id]).parent)
        rows.append(metadata_row(entry, split[model_id], licence, paths[model_id], prepared))
    write_metadata(rows, root)
    return len(rows), failed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("subset", choices=SUBSETS)
    parser.add_argument("--output-dir", type=Path, required=True, help="data root, e.g. data/sweethome3d")
    parser.add_argument(
        "--source", type=Path, help="folder with .sh3f files; default: <output_dir>/raw/package"
    )
    parser.add_argument(
        "--attribution", type=Path, help="also write the credits to this file (ATTRIBUTION.md)"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    logging.getLogger("trimesh").setLevel(logging.WARNING)  # it tells of every polygon it triangulates
    root = options.output_dir
    try:
        count, failed = build_sweethome3d(root, options.source or root / "raw" / "package")
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
