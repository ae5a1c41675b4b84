"""What a run says while it trains, by its first process: on the console, in ``log.jsonl``, to TensorBoard."""

from __future__ import annotations

import logging
import math
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scenegen.trainers.distributed import World
from scenegen.trainers.logs import BOARD_FOLDER, LOG_FILE, Board, LogFile, Means, rounded
from scenegen.trainers.loop_config import LoopConfig
from scenegen.trainers.prefetch import DataWait

logger = logging.getLogger(__name__)

MEASURED = ("seconds", "seconds_per_step", "data_wait", "memory_gib")
"""Numbers of a record that differ from run to run."""


def duration_text(seconds: float) -> str:
    """Seconds in the unit that people would say them in."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def peak_memory_gib(device: torch.device) -> float:
    """The most memory that was in use so far: of the GPU's allocator, elsewhere of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class Reporter:
    """Collects what steps log, and tells means of it.

    Attributes:
        means: of what was not told yet.
    """

    def __init__(self, config: LoopConfig, output_dir: Path, device: torch.device, world: World) -> None:
        self._config, self._device, self._world = config, device, world
        self._output_dir, self._file = output_dir, LogFile(output_dir / LOG_FILE)
        self.means = Means()
        self._board: Board | None = None
        self._first, self._limit_s, self._started_s, self._told_at = 0, math.inf, 0.0, 0.0

    def start(self, step: int, seconds: float, limit_s: float) -> None:
        """A run begins: what was logged after the step that it goes on from is dropped.

        Args:
            step: that are done.
            seconds: that they took.
            limit_s: seconds that the run has.

        Raises:
            OSError: the disk refuses.
        """
        self._first, self._limit_s, self._started_s, self._told_at = step, limit_s, seconds, seconds
        if self._world.is_first:
            self._file.cut_back(step if step else -1)
            self._board = Board(self._output_dir / BOARD_FOLDER, step + 1)

    def tell(self, text: str, *values: object) -> None:
        """Log a line, once for all processes."""
        if self._world.is_first:
            logger.info(text, *values)

    def after_step(self, step: int, seconds: float, logs: Mapping[str, Tensor]) -> bool:
        """Take in what a step logs; tell it where its time has come.

        Args:
            step: that are done.
            seconds: that they took.
            logs: scalars of the step, means over all processes.

        Returns:
            Whether a record is due: `write` has to be called.
        """
        self.means.add(logs)
        if step == self._first + 1:
            self._tell_first_step(step, seconds - self._started_s)
        if step % self._config.i_print == 0:
            self._tell_progress(step, seconds)
        return step % self._config.i_log == 0

    def write(self, step: int, seconds: float, wait: DataWait, more: Mapping[str, float]) -> None:
        """Write a record of the means since the last one.

        Args:
            step: that are done.
            seconds: that they took.
            wait: how long the device waited for data.
            more: further numbers.

        Raises:
            OSError: the disk refuses.
        """
        means, passed, waited = self.means.take(), seconds - self._told_at, wait.take()
        steps = min(self._config.i_log, step - self._first)
        self._told_at = seconds
        speed = {
            "seconds_per_step": passed / steps,
            "data_wait": min(1.0, waited / passed) if passed > 0 else 0.0,
            "memory_gib": peak_memory_gib(self._device),
        }
        self._record(step, seconds, {**means, **more, **speed})

    def looked(self, step: int, seconds: float, numbers: Mapping[str, float]) -> None:
        """Write a record of what watchers found.

        Raises:
            OSError: the disk refuses.
        """
        if numbers:
            self._record(step, seconds, numbers)

    def _record(self, step: int, seconds: float, numbers: Mapping[str, float]) -> None:
        if not self._world.is_first:
            return
        shown: dict[str, Any] = {name: rounded(value) for name, value in numbers.items()}
        self._file.append({"step": step, "seconds": round(seconds, 1), **shown})
        if self._board is not None:
            self._board.add(step, numbers)
        known = {name: value for name, value in shown.items() if value is not None and "/" not in name}
        values = "  ".join(f"{name} {value:.4g}" for name, value in known.items())
        logger.info("step %d/%d  %s", step, self._config.max_steps, values)

    def _tell_first_step(self, step: int, seconds: float) -> None:
        """Say how long all steps will take; the first one, which makes everything ready, takes longest."""
        left = self._config.max_steps - step
        steps = left
        if self._limit_s < math.inf:
            steps = min(left, int((self._limit_s - seconds) / max(seconds, 1e-6)))
        self.tell(
            "first step: %.1f s; at this rate %s for the %d steps to come%s",
            seconds,
            duration_text(seconds * steps),
            steps,
            " within the time limit" if steps < left else "",
        )

    def _tell_progress(self, step: int, seconds: float) -> None:
        done = step - self._first
        per_step = (seconds - self._started_s) / done
        self.tell(
            "step %d of %d (%.1f %%), %.2f h of training, %.0f steps an hour, %s to go",
            step,
            self._config.max_steps,
            100 * step / self._config.max_steps,
            seconds / 3600,
            3600 / max(per_step, 1e-9),
            duration_text(per_step * (self._config.max_steps - step)),
        )

    def close(self) -> None:
        """Write what is waiting."""
        if self._board is not None:
            self._board.close()
            self._board = None
