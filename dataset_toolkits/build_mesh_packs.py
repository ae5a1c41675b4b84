"""Pack prepared meshes by split: python -m dataset_toolkits.build_mesh_packs --output-dir R [--packs DIR]."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dataset_toolkits.steps import run_step
from dataset_toolkits.subsets.sweethome3d.data_set import build_mesh_pack
from scenegen.cli.parser import CommandParser
from scenegen.synthesis.furniture.split import SPLITS


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    parser.add_argument("--output-dir", type=Path, required=True, help="data root with metadata.csv")
    parser.add_argument("--packs", type=Path, help="folder for the packs; default: <output_dir>/../packs")
    parser.add_argument(
        "--keep-hidden", action="store_true", help="keep faces that no outside camera can see"
    )
    return parser.parse_args(arguments)


def build(options: argparse.Namespace) -> int:
    """Write a pack for each split."""
    folder = options.packs or options.output_dir.parent / "packs"
    for split in SPLITS:
        path = folder / f"{split}.safetensors"
        pack = build_mesh_pack(options.output_dir, split, keep_hidden=options.keep_hidden)
        pack.save(path)
        size_mb = path.stat().st_size / 1e6
        print(f"{path}: {len(pack)} meshes, {len(pack.faces)} faces, {size_mb:.1f} MB")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a pack for each split; 1 when one cannot be made."""
    options = parse_arguments(arguments)
    return run_step(lambda: build(options), ValueError)  # all of them name the model and the remedy


if __name__ == "__main__":
    sys.exit(main())
