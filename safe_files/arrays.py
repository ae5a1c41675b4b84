"""Arrays in NumPy's file format, whose header says how large they are: checked before memory is taken."""

from __future__ import annotations

import io
import lzma
import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from safe_files.limits import MAX_ARRAY_BYTES, MAX_ARRAY_DIMENSIONS
from safe_files.regular import UnreadableFile, open_regular, shown

_NUMBERS = "biuf"
_TEXTS = "U"
_LONGEST_HEADER = 10_000  # bytes; numpy.save writes 128
_BROKEN_ARCHIVE = (  # what a damaged, encrypted or foreign archive raises, beside its own words
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # encrypted; NotImplementedError, of a compression that is not known, is one, too
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def read_array_file(path: Path | str) -> np.ndarray:
    """The array of a ``.npy`` file; see `read_array`.

    Raises:
        UnreadableFile: it is no regular file, or no array of numbers within the limits.
        OSError: it cannot be read.
    """
    with open_regular(path) as file:
        return read_array(file, os.fstat(file.fileno()).st_size)


def read_archive(
    path: Path | str, choose: Callable[[list[str]], Sequence[str]] = list, *, with_texts: bool = False
) -> dict[str, np.ndarray]:
    """Arrays of a ``.npz`` file; see `read_array`.

    Args:
        path: the file.
        choose: the names of its arrays, without their ending -> those that are read.
        with_texts: take arrays of text, too.

    Raises:
        UnreadableFile: it is no regular file or no such archive, is damaged or encrypted, holds more than the
            limits, or an array of something else.
        OSError: there is no such file, or it cannot be opened.
    """
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                chosen = choose(list(members))
                if sum(members[name].file_size for name in chosen) > MAX_ARRAY_BYTES:
                    raise UnreadableFile(f"expected arrays of at most {MAX_ARRAY_BYTES} bytes")
                return {name: _member(archive, name, members[name], with_texts) for name in chosen}
        except UnreadableFile:
            raise
        except _BROKEN_ARCHIVE as error:
            raise UnreadableFile(f"{error or type(error).__name__}") from error


def _member(archive: zipfile.ZipFile, name: str, info: zipfile.ZipInfo, with_texts: bool) -> np.ndarray:
    with archive.open(info) as member:
        content = member.read(info.file_size + 1)
    try:
        return read_array(io.BytesIO(content), len(content), with_texts=with_texts)
    except UnreadableFile as error:
        raise UnreadableFile(f"{name}: {error}") from error


def read_array(file: BinaryIO, size: int, *, with_texts: bool = False) -> np.ndarray:
    """Read an array of real numbers or truth values; no object is ever unpickled.

    Args:
        file: at the beginning of the array's header.
        size: bytes of the file, or of the member of an archive, that holds the array.
        with_texts: take one of text, too.

    Raises:
        UnreadableFile: it is no array, holds something else than numbers, is larger than the limits, or
            claims more numbers than the file has.
        OSError: it cannot be read.
    """
    shape, is_fortran, dtype = _header(file)
    if dtype.kind not in (_NUMBERS + _TEXTS if with_texts else _NUMBERS):
        raise UnreadableFile(f"expected an array of numbers, got the type {shown(str(dtype))}")
    if len(shape) > MAX_ARRAY_DIMENSIONS:
        raise UnreadableFile(
            f"expected an array of at most {MAX_ARRAY_DIMENSIONS} dimensions, got {len(shape)}"
        )
    claimed = math.prod(shape) * dtype.itemsize
    if max((claimed, *shape)) > MAX_ARRAY_BYTES:
        raise UnreadableFile(
            f"expected an array of at most {MAX_ARRAY_BYTES} bytes, got the shape {shown(shape)}"
        )
    if claimed > size:
        raise UnreadableFile(
            f"expected {claimed} bytes of numbers for the shape {shown(shape)}, got a file of {size}; "
            "it is cut short or damaged"
        )
    content = file.read(claimed)
    if len(content) < claimed:
        raise UnreadableFile(f"expected {claimed} bytes of numbers, got {len(content)}; it is cut short")
    flat = np.frombuffer(content, dtype, math.prod(shape))
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, order and type; NumPy parses the header as a literal of Python, which fails in many ways."""
    try:
        first = np.lib.format.read_magic(file) == (1, 0)
        length = file.read(2 if first else 4)
        if int.from_bytes(length, "little") > _LONGEST_HEADER:
            raise ValueError(f"of {int.from_bytes(length, 'little')} bytes")
        header = io.BytesIO(length + file.read(int.from_bytes(length, "little")))
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read(header)
    except (
        ValueError,
        SyntaxError,
        tokenize.TokenError,
        EOFError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,  # what Python's parser raises for a literal that is nested deeply
    ) as error:
        told = str(error).partition("\n")[0] or type(error).__name__
        raise UnreadableFile(f"expected the header of an array file, got another ({told})") from error
    if any(type(side) is not int or side < 0 for side in shape):  # True is an int, too
        raise UnreadableFile(f"expected a shape of whole numbers, got {shown(shape)}")
    return shape, is_fortran, dtype
