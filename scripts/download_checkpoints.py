"""Fetch published weights into checkpoints/: ``scenegen download`` from a checkout."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from scenegen.cli.main import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_command("download", arguments)


if __name__ == "__main__":
    sys.exit(main())
