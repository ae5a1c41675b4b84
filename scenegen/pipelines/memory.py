"""Time and memory of the stages, and repeatable kernels while they run."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from scenegen.inputs.image_files import SceneInputError

logger = logging.getLogger(__name__)

PROCESS = "process"
"""Key of the peak of the whole process, the only one that a CPU tells."""

_KIB, _GIB = 2**10, 2**30


class StageMeter:
    """Seconds and peak memory by stage, in order of work; a stage may be entered several times.

    Attributes:
        seconds: of each stage.
        peak_bytes: most memory that tensors held during each stage on a GPU; on a CPU the peak of the
            process since it began, under `PROCESS`.
    """

    def __init__(self, device: torch.device) -> None:
        """Measure work on one device."""
        self._device = device
        self.seconds: dict[str, float] = {}
        self.peak_bytes: dict[str, int] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure a ``with`` block as part of a stage."""
        on_gpu = self._device.type == "cuda"
        if on_gpu:
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        start = time.perf_counter()
        yield
        if on_gpu:
            torch.cuda.synchronize(self._device)
            self._raise_peak(name, torch.cuda.max_memory_allocated(self._device))
        elif (peak := process_peak_bytes()) is not None:
            self._raise_peak(PROCESS, peak)
        seconds = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        highest = self.peak_bytes.get(name, self.peak_bytes.get(PROCESS, 0))
        logger.info("%s: %.2f s, peak %.2f GiB", name, seconds, highest / _GIB)

    @property
    def measured(self) -> dict[str, Any]:
        """What was measured, by the names of `SceneResult`."""
        return {"timings": self.seconds, "peak_bytes": self.peak_bytes}

    def _raise_peak(self, name: str, peak: int) -> None:
        self.peak_bytes[name] = max(peak, self.peak_bytes.get(name, 0))


def process_peak_bytes() -> int | None:
    """Most memory that the process held since it began; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (_KIB if sys.platform == "linux" else 1)  # macOS counts in bytes


def free_bytes(device: torch.device) -> int | None:
    """Memory that a device has left; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # no Linux
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * _KIB if found else None


def check_candidates_fit(count: int, num_assets: int, bytes_per_asset: int, device: torch.device) -> None:
    """Refuse more samples of a scene than the memory holds, before it is taken.

    Args:
        count: of samples; one is always tried.
        num_assets: of a sample.
        bytes_per_asset: what sampling and judging one object takes, about.
        device: where they are sampled.

    Raises:
        SceneInputError: there is too little.
    """
    free = free_bytes(device) if count > 1 else None
    if free is not None and count * num_assets * bytes_per_asset > free:
        fits = max(free // (num_assets * bytes_per_asset), 1)
        raise SceneInputError(
            f"candidates: expected as many as fit into the {free / _GIB:.1f} GiB of memory that {device} has "
            f"left, got {count} of {num_assets} objects; ask for {fits} or fewer"
        )


@contextmanager
def repeatable_kernels(device: torch.device) -> Iterator[None]:
    """On a GPU, prefer kernels that add in a fixed order, so that a seed gives the same bytes every time.

    Matrix products are repeatable only with the environment variable ``CUBLAS_WORKSPACE_CONFIG=:4096:8``, set
    before the process first uses the GPU.
    """
    if device.type != "cuda":
        yield
        return
    was_on = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # costs time and hides nothing here
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=warned_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled
