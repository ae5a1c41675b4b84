"""Ways to spoil a file of a data root; each is called with its path."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Spoil = Callable[[Path], object]


def text(content: str | bytes) -> Spoil:
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def cell(column: str, value: str) -> Spoil:
    """Another value in the first line of a table."""

    def spoil(path: Path) -> None:
        rows = list(csv.reader(io.StringIO(path.read_text())))
        rows[1][rows[0].index(column)] = value
        out = io.StringIO()
        csv.writer(out).writerows(rows)
        path.write_text(out.getvalue())

    return spoil


def without_column(name: str) -> Spoil:
    def spoil(path: Path) -> None:
        header, _, rest = path.read_text().partition("\n")
        path.write_text(header.replace(name, f"no_{name}") + "\n" + rest)

    return spoil


def twice(path: Path) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines, lines[1]]))


def arrays(**changed: np.ndarray) -> Spoil:
    def spoil(path: Path) -> None:
        with np.load(path) as stored:
            kept = {name: stored[name] for name in stored.files}
        np.savez_compressed(path, **{**kept, **changed})

    return spoil


def claiming(shape: str) -> Spoil:
    """An archive whose arrays claim to be of a shape."""

    def spoil(path: Path) -> None:
        with np.load(path) as stored:
            names = stored.files
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)
                archive.writestr(f"{name}.npy", content)

    return spoil


def flagged(path: Path) -> None:
    """An archive that says it is encrypted."""
    _in_every_member(path, 8, 6, 1)


def compressed_otherwise(path: Path) -> None:
    _in_every_member(path, 10, 8, 14)


def _in_every_member(path: Path, of_list: int, of_member: int, bits: int) -> None:
    """Set bits in the entries of an archive's list and before its members."""
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x01\x02", of_list), (b"PK\x03\x04", of_member)):
        place = content.find(magic)
        while place >= 0:
            content[place + offset] |= bits
            place = content.find(magic, place + 4)
    path.write_bytes(content)


def value(change: Callable[[dict], object]) -> Spoil:
    """A change of a JSON file."""

    def spoil(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def picture(size: tuple[int, int], mode: str = "RGB") -> Spoil:
    return lambda path: Image.new(mode, size).save(path, format="PNG")


def pixels(side: int) -> Spoil:
    """A picture that claims so many pixels."""

    def spoil(path: Path) -> None:
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4)).save(buffer, format="PNG")
        content = bytearray(buffer.getvalue())
        content[16:24] = struct.pack(">II", side, side)
        content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        path.write_bytes(content)

    return spoil
