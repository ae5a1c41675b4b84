"""All commands of ``dataset_toolkits`` behind one ``main``, whose first argument names the command."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "dataset_toolkits"
COMMANDS = tuple(
    sorted(path.stem for path in FOLDER.glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8"))
)
MODULES = tuple(f"dataset_toolkits.{name}" for name in COMMANDS)


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit status."""
    name, *rest = arguments
    return importlib.import_module(f"dataset_toolkits.{name}").main(rest)
