"""Tensors in safetensors files, which hold numbers and nothing that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from safe_files.regular import UnreadableFile, check_regular


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Name -> tensor, on the CPU.

    Raises:
        UnreadableFile: it is no regular file, or no whole safetensors file.
        OSError: it cannot be read.
    """
    check_regular(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _damaged(error) from error


@contextmanager
def open_weights(path: Path | str, framework: str) -> Iterator[Any]:
    """Open a safetensors file for reading single tensors and its notes, see ``safetensors.safe_open``.

    Args:
        path: a regular file.
        framework: "pt" or "numpy": what its tensors are.

    Raises:
        UnreadableFile: it is no regular file, no whole safetensors file, or lacks a tensor that is asked for.
        OSError: it cannot be read.
    """
    check_regular(path)
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except SafetensorError as error:
        raise _damaged(error) from error


def _damaged(error: SafetensorError) -> UnreadableFile:
    return UnreadableFile(str(error).partition("\n")[0] or type(error).__name__)
