"""Arrays in ``.npz`` files: written whole, and checked when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from safe_files.arrays import read_archive
from safe_files.regular import UnreadableFile
from trellis_modules.files import atomic_write


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write compressed arrays by name; the file appears whole, and the same arrays give the same bytes."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_arrays(path: Path, columns: Mapping[str, int | None]) -> dict[str, np.ndarray]:
    """Read tables of as many rows.

    Args:
        path: the file.
        columns: name of each array (N, C) -> C; None takes any above 0.

    Raises:
        ValueError: the file is missing, cut off or damaged, or an array is missing, of another shape, or not
            finite.
    """

    def choose(names: list[str]) -> list[str]:
        if missing := [name for name in columns if name not in names]:
            raise UnreadableFile(f"no array {missing[0]!r}, only {names}")
        return list(columns)

    try:
        arrays = read_archive(path, choose)
    except (OSError, UnreadableFile) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise ValueError(f"{path}: not readable as arrays ({reason}); make it again") from error
    rows = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    for name, array in arrays.items():
        wanted = columns[name] or "C"
        is_table = array.ndim == 2 and array.shape[1] > 0 and wanted in ("C", array.shape[1])
        if not is_table or len(rows) > 1 or rows == {0}:
            raise ValueError(
                f"{path}: {name}: expected (N, {wanted}), N above 0 and the same in {', '.join(arrays)}, got "
                f"{array.shape}; make it again"
            )
        if not np.abs(array).max() <= np.finfo(np.float32).max:  # NaN is refused, too
            raise ValueError(f"{path}: {name}: expected finite numbers of 32 bits; make it again")
    return arrays
