"""What holds for every command of the project: scripts of the checkout and ``scenegen COMMAND``."""

import ast
import re
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from scenegen.cli import main as entry
from scenegen.cli.parser import CommandParser

ROOT = Path(__file__).resolve().parents[4]
FOLDERS = (".", "scripts", "benchmarks", "dataset_toolkits")
SHARED_PARSER = {
    "scenegen/cli/parser.py",
    "vggt/__main__.py",  # may not import scenegen
    "scenegen/blender/blender_script/render.py",  # runs in Blender's Python, which has none of our packages
}


def has_main(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


SCRIPTS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in FOLDERS
    for path in sorted((ROOT / folder).glob("*.py"))
    if has_main(path)
]
COMMANDS = [*SCRIPTS, "scenegen.cli.main", *(command.module for command in entry.COMMANDS.values())]


class Captured(Exception):
    """Ends a command once its parser is built."""


@pytest.fixture
def call(monkeypatch):
    """Call a command, by the name of its module, on the arguments of the process."""
    for variable in entry.NETWORKS_ENVIRONMENT:
        monkeypatch.setenv(variable, "1")  # so that commands leave the environment as it was

    def run(module, *arguments):
        monkeypatch.setattr(sys, "argv", ["command", *arguments])
        import_module(module).main()

    return run


@pytest.fixture
def parser_of(call, monkeypatch):
    """The parser of a command."""

    def parser(module):
        def capture(self, *arguments):
            raise Captured(self)

        with monkeypatch.context() as patch, pytest.raises(Captured) as captured:
            patch.setattr(CommandParser, "parse_args", capture)
            call(module)
        return captured.value.args[0]

    return parser


def test_there_are_commands_in_every_folder():
    assert {"inference", "evaluate", "scripts.convert_checkpoint", "dataset_toolkits.build_scenes"} < {
        *SCRIPTS
    }
    assert sum(name.startswith("benchmarks.") for name in SCRIPTS) >= 10


@pytest.mark.parametrize("module", COMMANDS)
def test_flags_are_declared_with_dashes_and_taken_with_underscores(parser_of, module, capsys):
    parser = parser_of(module)

    def fault(text):
        with suppress(SystemExit):
            parser.parse_known_args([text])
        return capsys.readouterr().err

    for flag in parser.flags:
        assert "_" not in flag
        other = "--" + flag.removeprefix("--").replace("-", "_")
        if flag.startswith("--") and other != flag:
            # One of the two is refused by the flag itself: it needs a value, or it takes none.
            faults = [fault(other), fault(f"{other}=x")]
            assert any(flag in line for line in faults), (other, faults)


@pytest.mark.parametrize("module", COMMANDS)
def test_help_shows_no_flag_with_an_underscore(call, module, capsys):
    with pytest.raises(SystemExit) as exit_:
        call(module, "--help")
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "--version" in text and not re.findall(r"--[a-z0-9-]*_\w+", text)


@pytest.mark.parametrize("module", COMMANDS)
def test_version_is_shown_before_anything_else_is_asked(call, module, capsys):
    with pytest.raises(SystemExit) as exit_:
        call(module, "--version")
    assert exit_.value.code == 0
    assert re.fullmatch(r"scenegen \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize("module", COMMANDS)
def test_an_unknown_flag_is_one_line_and_status_2(call, module, capsys):
    with pytest.raises(SystemExit) as exit_:
        call(module, "--no-such-flag-of-any-command")
    assert exit_.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("(see --help)")


def test_every_command_uses_the_shared_parser():
    own = [
        path.relative_to(ROOT).as_posix()
        for folder in (*FOLDERS[1:], "scenegen", "trellis_modules", "vggt")
        for path in [*ROOT.glob("*.py"), *(ROOT / folder).rglob("*.py")]
        if "ArgumentParser(" in path.read_text(encoding="utf-8")
    ]
    assert set(own) <= SHARED_PARSER
