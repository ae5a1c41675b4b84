"""The parser of every command: flags in dashes or underscores, one version, errors of one line.

Importing this module loads no heavy package, so that ``--help`` and ``--version`` answer at once.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from safe_files.regular import shown
from scenegen import __version__

_LONGEST_PATH, _LONGEST_NAME = 4095, 255  # bytes, on Linux


class CommandParser(argparse.ArgumentParser):
    """An argument parser with the conventions of this project's commands.

    Flags are declared with dashes, and shown so in ``--help``; on the command line ``--no_appearance`` means
    the same as ``--no-appearance``. Names of the parsed options have underscores, as ever with argparse.
    Flags cannot be abbreviated: an abbreviation stops working, or silently means something else, when a later
    version adds a flag with the same beginning.
    """

    def __init__(self, description: str, prog: str | None = None) -> None:
        """Make a parser that knows ``--help`` and ``--version``.

        Args:
            description: head of the help, shown as it is written.
            prog: how the command is called; None takes the name of the running script.
        """
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "--version",
            action="version",
            version=f"scenegen {__version__}",
            help="show the version and exit",
        )

    @property
    def flags(self) -> tuple[str, ...]:
        """Every flag that the command knows, as it is declared."""
        return tuple(self._option_string_actions)  # argparse has no public list

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:
        """Parse the command line; a bad one ends the process with status 2 and one line on stderr.

        Args:
            args: None takes those of the process.
            namespace: see `argparse.ArgumentParser.parse_args`.
        """
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._suggestion(unknown[0])}")
        for name, value in vars(options).items():
            for path in value if isinstance(value, list | tuple) else (value,):
                if isinstance(path, str | Path) and (problem := _path_problem(path)):
                    self.error(f"argument --{name.replace('_', '-')}: {problem}")
        return options

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse what is known; see `argparse.ArgumentParser.parse_known_args`."""
        given = list(sys.argv[1:] if args is None else args)
        end = given.index("--") if "--" in given else len(given)
        dashed = [self._with_dashes(text) for text in given[:end]]
        return super().parse_known_args([*dashed, *given[end:]], namespace)

    def error(self, message: str) -> NoReturn:
        """End the process with status 2 and one line on stderr."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} (see --help)\n")

    def _with_dashes(self, text: str) -> str:
        """A known flag as it is declared; anything else, also the value behind ``=``, as it was given."""
        name, equals, value = text.partition("=")
        dashed = name.replace("_", "-")
        return dashed + equals + value if dashed in self.flags else text

    def _suggestion(self, unknown: str) -> str:
        """A hint at the flag that was meant, where one begins like it or looks like it."""
        name = unknown.partition("=")[0].replace("_", "-")
        if not name.startswith("--"):
            return ""
        found = [flag for flag in self.flags if flag.startswith(name)]
        found = found or difflib.get_close_matches(name, self.flags, n=1)
        return f"; did you mean {' or '.join(found)}?" if found else ""


def _path_problem(value: str | Path) -> str | None:
    """Why no file can have a path, or no text this content; the system would refuse it later."""
    text = str(value)
    if "\0" in text:
        return f"expected a text without null characters, got {shown(text)}"
    longest = max(len(os.fsencode(part)) for part in text.split("/"))
    if isinstance(value, Path) and (longest > _LONGEST_NAME or len(os.fsencode(text)) > _LONGEST_PATH):
        return f"expected names of at most {_LONGEST_NAME} bytes, got {shown(text)}"
    return None
