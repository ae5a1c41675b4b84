"""Digests of files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from safe_files.regular import UnreadableFile, open_regular

_BLOCK = 1 << 20
_SAMPLE = 1 << 16  # bytes of the beginning, the middle and the end of a file


def file_sha256(path: Path) -> str:
    """Hex digest of a file's content.

    Raises:
        UnreadableFile: it is a folder, a named pipe, a device or a socket.
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sampled_sha256(files: Mapping[str, Path]) -> str:
    """Hex digest of names, and of the sizes and three samples of their files, which may have gigabytes.

    Of a file that cannot be read only the name counts.
    """
    digest = hashlib.sha256()
    for name, path in files.items():
        digest.update(name.encode("utf-8", "surrogateescape"))
        try:
            for block in _samples(path):
                digest.update(block)
        except (OSError, UnreadableFile):  # whoever needs the file reports it
            continue
    return digest.hexdigest()


def _samples(path: Path) -> Iterator[bytes]:
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        yield size.to_bytes(8, "little")
        for start in (0, (size - _SAMPLE) // 2, size - _SAMPLE):
            file.seek(max(0, start))
            yield file.read(_SAMPLE)
