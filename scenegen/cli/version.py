"""Show the versions that a report of a problem should name: of SceneGen, Python and the packages it uses."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import scenegen
from scenegen.cli.parser import CommandParser

PACKAGES = (
    "torch",
    "numpy",
    "trimesh",
    "transformers",
    "gradio",
    "xformers",
    "flash-attn",
    "spconv",
    "gsplat",
)


def main(arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run the command line and return its exit status."""
    CommandParser(__doc__, prog).parse_args(arguments)
    lines = [
        f"scenegen {scenegen.__version__} in {Path(scenegen.__file__).parent}",
        f"Python {platform.python_version()} on {platform.platform()}",
        *(f"{name} {_installed(name)}" for name in PACKAGES),
    ]
    print("\n".join(lines))
    return 0


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "is not installed"
