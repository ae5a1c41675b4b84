"""Kernels behind one call: a registry of interchangeable implementations with lazy loading.

A backend names the file that implements it; the file (and the optional package it needs) is imported when the
backend is first used, never when the registry is.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

logger = logging.getLogger(__name__)


class BackendUnavailable(RuntimeError):
    """A kernel was asked for that this machine, device or dtype does not offer."""


@dataclass(frozen=True)
class Backend:
    """Where a kernel is implemented and what it accepts."""

    name: str
    module: str  # file that defines run(...)
    package: str  # importable package that the file needs
    devices: tuple[str, ...] | None = None  # None: every device type
    dtypes: tuple[torch.dtype, ...] | None = None  # None: every floating point type
    capability: tuple[int, int] = (0, 0)  # least CUDA compute capability
    auto_devices: tuple[str, ...] | None = None  # where "auto" may take it; None: wherever it runs

    def installed(self) -> bool:
        """Whether the needed package is there (only packages around it are imported)."""
        return importlib.util.find_spec(self.package) is not None

    def accepts(self, device_type: str, dtype: torch.dtype) -> bool:
        """Whether tensors of this device type and dtype can be given to the kernel."""
        return (
            (self.devices is None or device_type in self.devices)
            and (self.dtypes is None or dtype in self.dtypes)
            and (device_type != "cuda" or self._runs_on_current_gpu())
        )

    def is_automatic(self, device_type: str) -> bool:
        """Whether "auto" may take it on this device type."""
        return self.auto_devices is None or device_type in self.auto_devices

    def _runs_on_current_gpu(self) -> bool:
        if self.capability == (0, 0) or not torch.cuda.is_available():
            return True
        return torch.cuda.get_device_capability() >= self.capability

    def load(self, function: str = "run") -> Callable[..., Any]:
        """Import the implementation and return one of its functions.

        Raises:
            BackendUnavailable: the package is missing or does not import.
        """
        try:
            return getattr(importlib.import_module(self.module), function)
        except ImportError as error:
            raise BackendUnavailable(
                f"backend {self.name!r}: package {self.package!r} does not import ({error}); "
                "install it or choose another backend"
            ) from error


@dataclass(frozen=True)
class BackendRegistry:
    """The implementations of one kind of kernel, in the order in which "auto" tries them.

    Attributes:
        kind: what the kernels do, for messages.
        variable: environment variable with the name that "auto" stands for; unset or "auto" leaves the
            choice to the order.
        backends: by name.
    """

    kind: str
    variable: str
    backends: dict[str, Backend]
    _selected: dict[tuple[str, str, torch.dtype, str], Callable[..., Any]] = field(default_factory=dict)

    def available(self, device_type: str = "cpu", dtype: torch.dtype = torch.float32) -> list[str]:
        """Names of the installed backends that accept this device type and dtype, in "auto" order."""
        return [b.name for b in self.backends.values() if b.accepts(device_type, dtype) and b.installed()]

    def select(
        self, name: str, device: torch.device, dtype: torch.dtype, function: str = "run"
    ) -> Callable[..., Any]:
        """A function of the kernel for a backend name ("auto" or a key of ``backends``), device and dtype.

        Raises:
            ValueError: the name is unknown.
            BackendUnavailable: the named backend is not installed or does not accept the device or dtype.
        """
        key = (name, device.type, dtype, function)
        selected = self._selected.get(key)
        if selected is None:
            selected = self._selected[key] = self._resolve(name, device.type, dtype).load(function)
        return selected

    def clear(self) -> None:
        """Forget earlier choices, so that a changed environment variable counts."""
        self._selected.clear()

    def _resolve(self, name: str, device_type: str, dtype: torch.dtype) -> Backend:
        origin = self.kind
        if name == "auto":
            name, origin = os.environ.get(self.variable, "auto"), f"environment variable {self.variable}"
        if name == "auto":
            candidates = self.available(device_type, dtype)
            name = next(name for name in candidates if self.backends[name].is_automatic(device_type))
        if name not in self.backends:
            known = sorted(self.backends)
            raise ValueError(f"{origin}: unknown backend {name!r}; choose auto or one of {known}")
        backend = self.backends[name]
        if not backend.accepts(device_type, dtype):
            raise BackendUnavailable(
                f"{origin}: backend {name!r} does not take {dtype} on {device_type}; "
                f"choose auto or one of {self.available(device_type, dtype)}"
            )
        if not torch.compiler.is_compiling():
            logger.info("%s on %s with %s uses %s", self.kind, device_type, dtype, name)
        return backend
