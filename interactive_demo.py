"""Make scenes of photos in the browser: ``scenegen interactive`` from a checkout."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from scenegen.cli.main import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run_command("interactive", arguments)


if __name__ == "__main__":
    sys.exit(main())
