"""Arrays in npz files: the same bytes for the same arrays, and a line for files that cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from scenegen.datasets.arrays import read_arrays, write_arrays

ARRAYS = {"feats": np.ones((4, 8), np.float32), "coords": np.zeros((4, 3), np.uint8)}
COLUMNS = {"feats": 8, "coords": 3}


def test_arrays_come_back_and_have_the_same_bytes_later(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", **ARRAYS)
    os.utime(tmp_path / "a.npz", (0, 0))
    write_arrays(tmp_path / "b.npz", **ARRAYS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    for name, array in read_arrays(tmp_path / "a.npz", COLUMNS).items():
        np.testing.assert_array_equal(array, ARRAYS[name])
        assert array.dtype == ARRAYS[name].dtype


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"coords": ARRAYS["coords"]}, "no array 'feats'"),
        (ARRAYS | {"feats": np.ones((4, 7), np.float32)}, r"feats: expected \(N, 8\).*got \(4, 7\)"),
        (ARRAYS | {"coords": np.zeros((5, 3), np.uint8)}, "the same in feats, coords"),
        ({name: array[:0] for name, array in ARRAYS.items()}, "N above 0"),
        (ARRAYS | {"feats": np.full((4, 8), np.nan)}, "feats: expected finite numbers"),
        (ARRAYS | {"feats": np.full((4, 8), "text")}, "feats: expected an array of numbers"),
    ],
)
def test_other_arrays_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], complaint: str) -> None:
    write_arrays(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=f"a.npz: .*{complaint}.*make it again"):
        read_arrays(tmp_path / "a.npz", COLUMNS)


def test_files_that_were_cut_off_or_changed_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(ValueError, match=r"not readable as arrays \(no such file\)"):
        read_arrays(path, COLUMNS)
    rng = np.random.default_rng(0)
    write_arrays(path, feats=rng.random((400, 8)), coords=np.zeros((400, 3), np.uint8))
    content = path.read_bytes()
    for end in (0, 1, 30, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match="not readable as arrays"):
            read_arrays(path, COLUMNS)
    changed = bytearray(content)
    changed[len(content) // 3] ^= 255
    path.write_bytes(changed)
    with pytest.raises(ValueError, match="not readable as arrays"):
        read_arrays(path, COLUMNS)


def test_objects_of_python_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", feats=np.array([print], dtype=object))
    with pytest.raises(ValueError, match="not readable as arrays"):
        read_arrays(tmp_path / "a.npz", {"feats": None})
