"""Write the table of furniture sizes with which scenes get a scale in metres.

    python -m dataset_toolkits.furniture_sizes --pack packs/train.safetensors

The pack is one of the training split; procedural models, whose sizes are drawn at random, are left out. See
`scenegen.photo.metric_scale`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from scenegen.cli.parser import CommandParser
from scenegen.photo.metric_scale import SIZES_FILE
from scenegen.synthesis.furniture.mesh_pack import MeshPack, PackError
from scenegen.synthesis.furniture.split import SplitError, load_split
from trellis_modules.files import atomic_write_text

_LOG = logging.getLogger("furniture_sizes")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    options = _parser().parse_args(arguments)
    try:
        infos = MeshPack.load_for_training(options.pack).infos
    except (PackError, SplitError) as error:
        _LOG.error("%s", error)
        return 2
    known = load_split()
    sizes = sorted([round(side, 3) for side in info.size_m] for info in infos if info.id in known)
    if not sizes:
        _LOG.error(
            "%s: expected furniture of the fixed split, got procedural models alone; give another pack",
            options.pack,
        )
        return 2
    source = (
        f"widths, heights and depths in metres of the {len(sizes)} models of the training split of Debian's "
        "sweethome3d-furniture that stand on the floor, on furniture or on walls; written by "
        "dataset_toolkits.furniture_sizes"
    )
    rows = ",\n  ".join(json.dumps(row) for row in sizes)
    text = f'{{\n "source": {json.dumps(source)},\n "sizes_m": [\n  {rows}\n ]\n}}\n'
    atomic_write_text(options.output, text)
    print(f"{len(sizes)} sizes in {options.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(__doc__.partition("\n")[0], "python -m dataset_toolkits.furniture_sizes")
    parser.add_argument("--pack", type=Path, required=True, metavar="FILE", help="pack of the training split")
    parser.add_argument("--output", type=Path, default=SIZES_FILE, metavar="JSON", help="(%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
