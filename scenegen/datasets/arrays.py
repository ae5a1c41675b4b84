"""Arrays in ``.npz`` files: written whole, and checked when they are read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from trellis_modules.files import atomic_write

_UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write compressed arrays by name; the file appears whole, and the same arrays give the same bytes."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: Path, columns: Mapping[str, int | None]) -> dict[str, np.ndarray]:
    """Read tables of as many rows.

    Args:
        path: the file.
        columns: name of each array (N, ...) -> its second dimension; None takes any shape and any N.

    Raises:
        ValueError: the file is missing, cut off or damaged, or an array is missing, of another shape, or not
            finite.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            if missing := [name for name in columns if name not in stored.files]:
                raise ValueError(f"no array {missing[0]!r}, only {stored.files}")
            arrays = {name: stored[name] for name in columns}
    except _UNREADABLE as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error or type(error).__name__
        raise ValueError(f"{path}: not readable as arrays ({reason}); make it again") from error
    tables = {name: array for name, array in arrays.items() if columns[name] is not None}
    rows = {array.shape[0] if array.ndim else 0 for array in tables.values()}
    for name, array in arrays.items():
        if columns[name] is not None and (
            array.shape[1:] != (columns[name],) or len(rows) > 1 or rows == {0}
        ):
            raise ValueError(
                f"{path}: {name}: expected (N, {columns[name]}), N above 0 and the same in "
                f"{', '.join(tables)}, got {array.shape}; make it again"
            )
        if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
            raise ValueError(f"{path}: {name}: expected finite numbers; make it again")
    return arrays
