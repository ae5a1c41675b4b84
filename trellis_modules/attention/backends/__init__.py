"""Attention kernels behind one call: a registry with lazy loading.

A backend is named in :data:`BACKENDS` by the file that implements it; the file (and the optional package it
needs) is imported when the backend is first used, never when this package is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

#: Names the backend that "auto" stands for; unset or "auto" leaves the choice to the order of BACKENDS.
BACKEND_VARIABLE = "SCENEGEN_ATTENTION"

AttentionFunction = Callable[[Tensor, Tensor, Tensor], Tensor]

_HALF = (torch.float16, torch.bfloat16)


class BackendUnavailable(RuntimeError):
    """A kernel was asked for that this machine, device or dtype does not offer."""


@dataclass(frozen=True)
class Backend:
    """Where a kernel is implemented and what it accepts."""

    name: str
    module: str  # file that defines run(q, k, v)
    package: str  # importable package that the file needs
    devices: tuple[str, ...] | None = None  # None: every device type
    dtypes: tuple[torch.dtype, ...] | None = None  # None: every floating point type

    def installed(self) -> bool:
        """Whether the needed package is there (without importing it)."""
        return importlib.util.find_spec(self.package) is not None

    def accepts(self, device_type: str, dtype: torch.dtype) -> bool:
        """Whether tensors of this device type and dtype can be given to the kernel."""
        return (self.devices is None or device_type in self.devices) and (
            self.dtypes is None or dtype in self.dtypes
        )

    def load(self) -> AttentionFunction:
        """Import the implementation.

        Raises:
            BackendUnavailable: the package is missing or does not import.
        """
        try:
            return importlib.import_module(self.module).run
        except ImportError as error:
            raise BackendUnavailable(
                f"attention backend {self.name!r}: package {self.package!r} does not import ({error}); "
                f"install it or choose one of {[b.name for b in BACKENDS.values() if b.installed()]}"
            ) from error


#: In the order in which "auto" tries them.  SDPA comes first: it dispatches to flash and memory-efficient
#: kernels itself, runs everywhere and is traced by torch.compile; the others are taken by name.
BACKENDS: dict[str, Backend] = {
    backend.name: backend
    for backend in (
        Backend("sdpa", f"{__name__}.torch_sdpa", "torch"),
        Backend("flash_attn", f"{__name__}.flash_attn", "flash_attn", ("cuda",), _HALF),
        Backend("xformers", f"{__name__}.xformers", "xformers", ("cuda",), (*_HALF, torch.float32)),
    )
}

_SELECTED: dict[tuple[str, str, torch.dtype], AttentionFunction] = {}


def available_backends(device_type: str = "cpu", dtype: torch.dtype = torch.float32) -> list[str]:
    """Names of the installed backends that accept this device type and dtype, in "auto" order."""
    return [b.name for b in BACKENDS.values() if b.accepts(device_type, dtype) and b.installed()]


def select(name: str, device: torch.device, dtype: torch.dtype) -> AttentionFunction:
    """The kernel for a backend name ("auto" or a key of BACKENDS), a device and a dtype.

    Raises:
        ValueError: the name is unknown.
        BackendUnavailable: the named backend is not installed or does not accept the device or dtype.
    """
    key = (name, device.type, dtype)
    function = _SELECTED.get(key)
    if function is None:
        function = _SELECTED[key] = _resolve(name, device.type, dtype)
    return function


def _resolve(name: str, device_type: str, dtype: torch.dtype) -> AttentionFunction:
    origin = "attention"
    if name == "auto":
        name, origin = os.environ.get(BACKEND_VARIABLE, "auto"), f"environment variable {BACKEND_VARIABLE}"
    if name == "auto":
        name = available_backends(device_type, dtype)[0]
    if name not in BACKENDS:
        raise ValueError(f"{origin}: unknown backend {name!r}; choose auto or one of {sorted(BACKENDS)}")
    backend = BACKENDS[name]
    if not backend.accepts(device_type, dtype):
        raise BackendUnavailable(
            f"{origin}: backend {name!r} does not take {dtype} on {device_type}; "
            f"choose auto or one of {available_backends(device_type, dtype)}"
        )
    function = backend.load()
    if not torch.compiler.is_compiling():
        logger.info("attention on %s with %s uses %s", device_type, dtype, name)
    return function
