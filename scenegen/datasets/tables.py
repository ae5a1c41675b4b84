"""CSV files with typed columns: cells are text on disk, and every error names the file and the line."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from safe_files.json_reader import parse_json
from safe_files.limits import MAX_TABLE_LINE
from safe_files.regular import UnreadableFile, open_regular
from trellis_modules.files import atomic_write

Vector3 = tuple[float, float, float]
_TRUE, _FALSE = {"true", "1", "1.0"}, {"", "false", "0", "0.0", "nan"}


class MetadataError(ValueError):
    """A table of a data set is missing, or one of its lines cannot be used."""


OnError = Callable[[MetadataError], None]
"""Takes the error of one line, so that reading goes on with the next; without one the error is raised."""


@dataclass(frozen=True)
class Column:
    """How one column is read and written.

    Attributes:
        parse: text of a cell to its value; raises ValueError with what was expected.
        text: value to the text of its cell.
        default: value where a file lacks the column.
    """

    parse: Callable[[str], Any]
    text: Callable[[Any], str]
    default: Any


def read_lines(
    path: Path, required: Iterable[str], on_error: OnError | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Read a CSV file with a header, in UTF-8.

    Args:
        path: the file.
        required: columns that it must have.
        on_error: takes the errors of single lines; None raises the first.

    Yields:
        The number of each line, counted from 1 at the header, and its cells by column.

    Raises:
        MetadataError: the file is missing, is no such table, or lacks a column.
    """
    with _opened(path) as file:
        reader = csv.reader(_lines(file), strict=True)
        last = 0
        try:
            header = next(reader, [])
            _check_header(path, header, required)
            last = reader.line_num
            for cells in reader:
                last = reader.line_num
                if len(cells) == len(header):
                    yield reader.line_num, dict(zip(header, cells))
                elif cells:
                    _refuse(
                        on_error,
                        f"{path}: line {reader.line_num}: expected {len(header)} cells, got {len(cells)}; "
                        "the file was cut off or edited, write it again",
                    )
        except (csv.Error, UnicodeDecodeError) as error:
            _refuse(
                on_error,
                f"{path}: line {last + 1}: not readable as CSV ({error}); "
                "the file was cut off or edited, write it again",
            )


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    try:
        opened = open_regular(path)
    except FileNotFoundError as error:
        raise MetadataError(f"{path}: no such file; the step that writes it has not been run") from error
    except (OSError, UnreadableFile) as error:
        raise MetadataError(f"{path}: not readable as a table ({error}); put the table there") from error
    with TextIOWrapper(opened, encoding="utf-8-sig", newline="") as file:
        yield file


def _lines(file: TextIO) -> Iterator[str]:
    """The lines of a file, which must not fill the memory one by one."""
    while line := file.readline(MAX_TABLE_LINE + 1):
        if len(line) > MAX_TABLE_LINE:
            raise csv.Error(f"a line has more than {MAX_TABLE_LINE} characters")
        yield line


def read_cells(
    where: str, cells: Mapping[str, str], columns: Mapping[str, Column]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Split the cells of a line into the values of known columns and the text of all others.

    Args:
        where: file and line, for the error.

    Raises:
        MetadataError: a cell does not hold what its column says.
    """
    values = {}
    for name, column in columns.items():
        try:
            values[name] = column.parse(cells[name].strip()) if name in cells else column.default
        except ValueError as error:
            raise MetadataError(f"{where}: column {name}: {error}; correct or remove the line") from error
    return values, {name: text for name, text in cells.items() if name not in columns}


def write_lines(path: Path, header: Sequence[str], lines: Iterable[Mapping[str, str]]) -> None:
    """Write a CSV file that appears whole; a column that a line lacks is left empty."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, header, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _check_header(path: Path, header: list[str], required: Iterable[str]) -> None:
    if missing := [name for name in required if name not in header]:
        raise MetadataError(
            f"{path}: expected a table with the column {missing[0]!r}, got {header[:6]}; give another file"
        )
    if twice := [name for name in header if header.count(name) > 1]:
        raise MetadataError(f"{path}: column {twice[0]!r} occurs twice; remove one")


def _refuse(on_error: OnError | None, message: str) -> None:
    error = MetadataError(message)
    if on_error is None:
        raise error
    on_error(error)


def _flag(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError(f"expected True or False, got {text!r}")
    return text.lower() in _TRUE


def _count(text: str) -> int:
    value = float(text or "0")
    if value < 0 or not value.is_integer():
        raise ValueError(f"expected a whole number, got {text!r}")
    return int(value)


def _optional_count(text: str) -> int | None:
    return None if text.lower() in ("", "nan") else _count(text)


def _number(text: str) -> float | None:
    """A finite number; None for an empty cell and for False, which stands where there is none."""
    if text.lower() in ("", "nan", "false"):
        return None
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"expected a finite number, got {text!r}")
    return value


def _vector(text: str) -> Vector3 | None:
    """Three finite numbers as ``[x, y, z]``; None for an empty cell and for False."""
    if text.lower() in ("", "false"):
        return None
    try:
        numbers = [float(value) for value in parse_json(text)]
    except (TypeError, ValueError) as error:
        raise ValueError(f"expected three finite numbers as [x, y, z], got {text[:80]!r}") from error
    if len(numbers) != 3 or not all(math.isfinite(value) for value in numbers):
        raise ValueError(f"expected three finite numbers as [x, y, z], got {text!r}")
    return numbers[0], numbers[1], numbers[2]


def _written(value: float | None) -> str:
    return "" if value is None else repr(value)


def _written_or_false(value: Any) -> str:
    if value is None:
        return "False"
    return json.dumps(list(value)) if isinstance(value, tuple) else repr(value)


TEXT = Column(str, str, "")
FLAG = Column(_flag, str, False)
COUNT = Column(_count, str, 0)
OPTIONAL_COUNT = Column(_optional_count, _written, None)
NUMBER = Column(_number, _written, None)
NUMBER_OR_FALSE = Column(_number, _written_or_false, None)
VECTOR_OR_FALSE = Column(_vector, _written_or_false, None)
