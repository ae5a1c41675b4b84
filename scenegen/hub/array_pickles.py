"""Pickles of nested dictionaries of NumPy arrays, as programs for JAX keep weights; nothing is run."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scenegen.hub.releases import HubError

# What pickles of arrays name; the module was called numpy.core before NumPy 2.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np.ndarray.__reduce__(np.zeros(1))[0],
    ("numpy._core.multiarray", "_reconstruct"): np.ndarray.__reduce__(np.zeros(1))[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Knows plain containers and arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError as error:
            raise pickle.UnpicklingError(f"{module}.{name}") from error


def read_arrays(path: Path, member: str | None = None) -> dict[str, Tensor]:
    """Read the arrays of a pickle under their dotted names.

    Args:
        path: the pickle, or an archive (.tar.gz) that holds it.
        member: end of the pickle's path in the archive.

    Raises:
        HubError: there is no such file, it is damaged, or it holds something else than arrays.
    """
    try:
        content = _archived(path, member) if member and tarfile.is_tarfile(path) else path.read_bytes()
        nested = _ArrayUnpickler(io.BytesIO(content)).load()
    except OSError as error:
        raise HubError(f"{path}: cannot be read ({error}); check the path") from error
    except tarfile.TarError as error:
        raise HubError(
            f"{path}: expected an archive, got a damaged one ({error}); download it again"
        ) from error
    except pickle.UnpicklingError as error:
        raise HubError(
            f"{path}: expected a pickle of arrays only, got {error}; refused, nothing was run"
        ) from error
    except (
        EOFError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        UnicodeDecodeError,
    ) as error:
        raise HubError(
            f"{path}: not a readable pickle of arrays ({error}); it is damaged, download it again"
        ) from error
    found = dict(_flat(nested, ""))
    if not found:
        raise HubError(f"{path}: expected nested dictionaries of arrays, got {type(nested).__name__}")
    return found


def _archived(path: Path, member: str) -> bytes:
    with tarfile.open(path) as archive:
        for entry in archive:
            if entry.isfile() and entry.name.endswith(member):
                return archive.extractfile(entry).read()
    raise HubError(f"{path}: expected {member} in the archive, found no such file")


def _flat(value: Any, name: str) -> list[tuple[str, Tensor]]:
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{name}.{key}".lstrip("."))]
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        return [(name, torch.from_numpy(np.ascontiguousarray(value)))]
    raise HubError(f"expected an array for {name!r} in a pickle of weights, got {type(value).__name__}")
