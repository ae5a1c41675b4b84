"""The command ``scenegen``, and what it shares with the scripts of the checkout: one table of commands.

Nothing heavy is imported here: a command's module is loaded when the command runs, after the environment that
PyTorch reads while it loads has been set.
"""

from __future__ import annotations

import gc
import os
import sys
from argparse import SUPPRESS
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType

from scenegen.cli.parser import CommandParser

NETWORKS_ENVIRONMENT = {
    # Read when PyTorch loads OpenMP. Threads that wait by spinning take the cores of those that still work:
    # with other processes on the machine sampling takes twice as long.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Read when PyTorch first uses a GPU: matrix products that give the same bits every time.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
"""Of commands that run networks on photos; what the user has set counts more."""


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        module: has ``main(arguments, prog)``, which returns the exit status.
        about: one line for the help.
        environment: defaults of environment variables, set before the module is loaded.
    """

    module: str
    about: str
    environment: Mapping[str, str] = field(default_factory=dict)


COMMANDS = {
    "infer": Command(
        "scenegen.cli.infer", "turn photos with object masks into 3D scenes", NETWORKS_ENVIRONMENT
    ),
    "reroll": Command(
        "scenegen.cli.reroll", "change one object of a finished scene and keep the rest", NETWORKS_ENVIRONMENT
    ),
    "segment": Command(
        "scenegen.cli.segment", "find the objects of photos and write their masks", NETWORKS_ENVIRONMENT
    ),
    "demo": Command("scenegen.cli.demo", "show finished scenes in the browser"),
    "interactive": Command(
        "scenegen.cli.interactive", "make scenes of photos in the browser", NETWORKS_ENVIRONMENT
    ),
    "train": Command("scenegen.cli.train", "train one network, as an experiment file describes it"),
    "evaluate": Command("scenegen.cli.evaluate", "compare predicted scenes with true ones"),
    "download": Command("scenegen.cli.download", "fetch published weights"),
    "version": Command("scenegen.cli.version", "show the versions that a report of a problem should name"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``scenegen COMMAND ...`` and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    width = max(map(len, COMMANDS))
    table = "\n".join(f"  {name:{width}}  {command.about}" for name, command in COMMANDS.items())
    parser = CommandParser(
        f"One photo and one mask per object to a 3D scene.\n\ncommands:\n{table}\n\n"
        "'scenegen COMMAND --help' describes a command and its options.",
        prog="scenegen",
    )
    parser.usage = "scenegen [--help] [--version] COMMAND ..."
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=SUPPRESS)  # the table has it
    options = parser.parse_args(given[:1])
    return run_command(options.command, given[1:], f"scenegen {options.command}")


def run_command(name: str, arguments: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Run one of `COMMANDS` and return its exit status.

    Args:
        name: of the command.
        arguments: None takes those of the process.
        prog: how it is called, for messages; None takes the name of the running script.
    """
    command = COMMANDS[name]
    for variable, value in command.environment.items():
        os.environ.setdefault(variable, value)
    return _loaded(command.module).main(arguments, prog)


def _loaded(module: str) -> ModuleType:
    """Import the module of a command without looking for garbage meanwhile.

    What is imported stays for as long as the process. Looking through it, again and again as it grows, takes
    a seventh of the time until a command that runs networks begins, and afterwards whenever it is done again.
    """
    gc.disable()
    try:
        return import_module(module)
    finally:
        gc.freeze()
        gc.enable()
