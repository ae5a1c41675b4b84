"""Digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safe_files.regular import open_regular

_BLOCK = 1 << 20


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
