"""Tensors in safetensors files, which hold numbers and nothing that runs, and networks that wait for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from safe_files.regular import UnreadableFile, check_regular


@contextmanager
def without_weights() -> Iterator[None]:
    """Build networks inside a ``with`` block without weights: those of a file will take their place.

    Nothing is drawn and nothing held; all tensors are on the device "meta".
    """
    with torch.device("meta"), _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Leaves initial weights out: without memory they are nothing, but some load PyTorch's compiler."""

    _DRAWS = (Tensor.normal_, Tensor.uniform_)

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function in self._DRAWS or getattr(function, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


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
