"""The parser that every command uses, on flags of its own."""

import pytest

from scenegen import __version__
from scenegen.cli.parser import CommandParser
from scenegen.cli.types import positive_int


@pytest.fixture
def parser():
    parser = CommandParser("Make a thing.\n\n  as written", prog="make")
    parser.add_argument("--no-appearance", action="store_true")
    parser.add_argument("--slat-steps", type=positive_int)
    parser.add_argument("--output-dir")
    parser.add_argument("files", nargs="*")
    return parser


@pytest.fixture
def error(parser, capsys):
    """Parse arguments that are wrong, and return the one line that says so."""

    def parse(*arguments):
        with pytest.raises(SystemExit) as exit_:
            parser.parse_args(arguments)
        assert exit_.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return parse


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-appearance", "--slat-steps", "3", "--output-dir", "a_b"],
        ["--no_appearance", "--slat_steps", "3", "--output_dir", "a_b"],
        ["--no_appearance", "--slat_steps=3", "--output-dir=a_b"],
    ],
)
def test_flags_with_dashes_and_underscores_are_the_same(parser, arguments):
    options = parser.parse_args(arguments)
    assert (options.no_appearance, options.slat_steps, options.output_dir) == (True, 3, "a_b")


def test_values_keep_their_underscores(parser):
    options = parser.parse_args(["--output_dir=--slat_steps", "slat_steps", "--", "--slat_steps"])
    assert options.output_dir == "--slat_steps"
    assert options.files == ["slat_steps", "--slat_steps"]


def test_the_arguments_of_the_process_are_the_default(parser, monkeypatch):
    monkeypatch.setattr("sys.argv", ["make", "--slat_steps", "3"])
    assert parser.parse_args().slat_steps == 3


def test_version(parser, capsys):
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"scenegen {__version__}\n"


def test_help_shows_the_description_as_written(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    text = capsys.readouterr().out
    assert "Make a thing.\n\n  as written\n" in text
    assert "--no-appearance" in text and "no_appearance" not in text


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--slat-stepz", "unrecognized arguments: --slat-stepz; did you mean --slat-steps?"),
        ("--slat_stepz=3", "unrecognized arguments: --slat_stepz=3; did you mean --slat-steps?"),
        ("--xyz", "unrecognized arguments: --xyz"),
        ("-x", "unrecognized arguments: -x"),
        ("--slat-steps=0", "argument --slat-steps: expected a whole number above 0, got '0'"),
    ],
)
def test_a_bad_command_line_is_one_line_and_status_2(error, argument, expected):
    assert error(argument) == f"make: error: {expected} (see --help)"


@pytest.mark.parametrize("abbreviation", ["--no-app", "--no_app", "--slat"])
def test_flags_cannot_be_abbreviated_but_are_suggested(error, abbreviation):
    line = error(abbreviation)
    assert f"unrecognized arguments: {abbreviation}; did you mean --" in line


def test_an_error_of_several_lines_becomes_one(parser, capsys):
    with pytest.raises(SystemExit):
        parser.error("a\n  b")
    assert capsys.readouterr().err == "make: error: a b (see --help)\n"
