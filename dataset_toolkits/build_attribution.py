"""Write the credits of the furniture: python dataset_toolkits/build_attribution.py --output-dir R."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dataset_toolkits.steps import add_output_dir, run_step
from dataset_toolkits.subsets.sweethome3d.attribution import attribution_markdown
from dataset_toolkits.subsets.sweethome3d.metadata import read_metadata
from scenegen.cli.parser import CommandParser
from trellis_modules.files import atomic_write_text


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = CommandParser(__doc__)
    add_output_dir(parser)
    parser.add_argument("--output", type=Path, default=Path("ATTRIBUTION.md"), help="file to write")
    return parser.parse_args(arguments)


def write(options: argparse.Namespace) -> int:
    """Write the credits of everything in the table."""
    rows = read_metadata(options.output_dir)
    atomic_write_text(options.output, attribution_markdown(rows))
    print(f"{options.output}: {len(rows)} models")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Write; 1 when the table is not one of furniture."""
    options = parse_arguments(arguments)
    return run_step(lambda: write(options))


if __name__ == "__main__":
    sys.exit(main())
