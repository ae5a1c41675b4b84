"""Where networks run where nobody says it, and in what precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

_HALVES = (torch.float16, torch.bfloat16)
_CPU_INFO = Path("/proc/cpuinfo")
_MATRIX_UNITS = "amx_tile"  # of x86 processors that multiply matrices of 16-bit numbers fast


def best_device() -> torch.device:
    """The first NVIDIA GPU, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def default_dtype(device: torch.device) -> torch.dtype:
    """What large layers compute in where nobody says it: float32 on a CPU, else float16."""
    return torch.float32 if device.type == "cpu" else torch.float16


def device_text(device: torch.device, dtype: torch.dtype) -> str:
    """A device and a precision in words."""
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)} ({device})"
    elif device.type == "mps":
        name = "Apple GPU (mps)"
    else:
        threads = torch.get_num_threads()
        name = f"CPU with {threads} thread{'s' if threads != 1 else ''}"
    return f"{name}, {str(dtype).removeprefix('torch.')}"


def is_slow(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a precision takes several times as long as float32: 16 bits on a CPU without matrix units."""
    return device.type == "cpu" and dtype in _HALVES and not _has_matrix_units()


def _has_matrix_units() -> bool:
    try:
        return _MATRIX_UNITS in _CPU_INFO.read_text(encoding="ascii", errors="replace")
    except OSError:  # no Linux
        return False


def computed(make: Callable[[], Tensor]) -> Tensor:
    """A constant of a network that is being built, on the default device.

    It is computed on the CPU: for arithmetic on the device "meta" PyTorch loads its compiler, which takes
    longer than to read the weights.
    """
    with torch.device("cpu"):
        value = make()
    return value.to(torch.get_default_device())
