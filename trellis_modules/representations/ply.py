"""PLY files with one table of vertices: binary little endian, scalar columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from safe_files.regular import open_regular

_TYPES = {
    "char": "<i1",
    "int8": "<i1",
    "uchar": "<u1",
    "uint8": "<u1",
    "short": "<i2",
    "int16": "<i2",
    "ushort": "<u2",
    "uint16": "<u2",
    "int": "<i4",
    "int32": "<i4",
    "uint": "<u4",
    "uint32": "<u4",
    "float": "<f4",
    "float32": "<f4",
    "double": "<f8",
    "float64": "<f8",
}
_FORMAT = "format binary_little_endian 1.0"
_MAX_HEADER_LINES = 1000


def write_ply_vertices(path: Path, columns: Mapping[str, np.ndarray], comments: Sequence[str] = ()) -> None:
    """Write columns of equal length as float32 vertex properties, in the order given.

    Args:
        path: file to write.
        columns: (N,) by name.
        comments: lines of ASCII for the end of the header: some viewers count the lines at its beginning.

    Raises:
        ValueError: a column is not one-dimensional or has another length than the first.
    """
    lengths = {name: np.shape(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1 or any(len(shape) != 1 for shape in lengths.values()):
        raise ValueError(f"{path}: expected columns (N,) of one length, got {lengths}")
    count = next(iter(lengths.values()), (0,))[0]
    table = np.empty(count, dtype=[(name, "<f4") for name in columns])
    for name, column in columns.items():
        table[name] = column
    lines = ["ply", _FORMAT, f"element vertex {count}", *(f"property float {name}" for name in columns)]
    header = "\n".join([*lines, *(f"comment {line}" for line in comments), "end_header", ""])
    Path(path).write_bytes(header.encode("ascii") + table.tobytes())


def read_ply_vertices(path: Path) -> np.ndarray:
    """Read the vertices of a binary little-endian PLY file as a structured array; later elements are ignored.

    Raises:
        OSError: it cannot be read.
        ValueError: not such a file, vertices are not its first element, or it is shorter than it says.
    """
    with open_regular(path) as file:
        header = _read_header(path, file.readline)
        count, dtype = _vertex_table(path, header)
        available = Path(path).stat().st_size - file.tell()
        if available < count * dtype.itemsize:
            raise ValueError(
                f"{path}: expected {count} vertices of {dtype.itemsize} bytes, got {available} bytes in all; "
                "is the file truncated?"
            )
        return np.frombuffer(file.read(count * dtype.itemsize), dtype=dtype)


def _read_header(path: Path, readline: Callable[[], bytes]) -> list[list[str]]:
    """The words of each header line after the format, without comments."""
    if readline().strip() != b"ply":
        raise ValueError(f"{path}: not a PLY file (the first line is not 'ply')")
    lines = []
    for _ in range(_MAX_HEADER_LINES):
        line = readline().decode("ascii", errors="replace").strip()
        if line == "end_header":
            break
        if line and line.split()[0] not in ("comment", "obj_info"):
            lines.append(line)
    else:
        raise ValueError(f"{path}: the PLY header has no 'end_header' in its first {_MAX_HEADER_LINES} lines")
    if not lines or lines[0] != _FORMAT:
        raise ValueError(f"{path}: expected {_FORMAT!r}, got {lines[0] if lines else 'nothing'!r}")
    return [line.split() for line in lines[1:]]


def _vertex_table(path: Path, header: list[list[str]]) -> tuple[int, np.dtype]:
    """Number and layout of the vertices."""
    first = header[0] if header else []
    if first[:2] != ["element", "vertex"] or len(first) != 3 or not first[2].isdecimal():
        raise ValueError(
            f"{path}: expected 'element vertex COUNT' as the first element of the PLY header, "
            f"got {' '.join(first)!r}"
        )
    fields = []
    for words in header[1:]:
        if words[0] == "element":
            break
        if len(words) != 3 or words[0] != "property" or words[1] not in _TYPES:
            raise ValueError(f"{path}: cannot read the vertex {' '.join(words)!r}; only scalars are known")
        fields.append((words[2], _TYPES[words[1]]))
    names = [name for name, _ in fields]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{path}: expected different properties of the vertices, got {names}")
    return int(first[2]), np.dtype(fields)
