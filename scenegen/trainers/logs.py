"""What a run tells: means over some steps, one JSON line each, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from safe_files.json_reader import parse_json
from safe_files.regular import UnreadableFile
from trellis_modules.files import atomic_write_bytes

logger = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"
BOARD_FOLDER = "tb_logs"
_DIGITS = 7  # that a logged number keeps, those of float32

_SEPARATOR = "|"  # of names in a saved state


class Means:
    """Means of scalars over the steps since they were last taken; NaN stands for nothing and is left out.

    Sums stay on the device until they are asked for.
    """

    def __init__(self) -> None:
        self._totals: dict[tuple[str, ...], Tensor] = {}  # names -> (2, names) sums and counts

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Take in the scalars of a step."""
        row = torch.stack([value.detach().float() for value in values.values()])
        known = ~torch.isnan(row)
        totals = torch.stack([torch.where(known, row, 0.0), known.float()])
        names = tuple(values)
        self._totals[names] = self._totals[names] + totals if names in self._totals else totals

    def take(self) -> dict[str, float]:
        """The mean of each name, NaN where there was none; then begins anew."""
        sums: dict[str, tuple[float, float]] = {}
        for names, totals in self._totals.items():
            for name, total, count in zip(names, *totals.tolist(), strict=True):
                before = sums.get(name, (0.0, 0.0))
                sums[name] = before[0] + total, before[1] + count
        self._totals = {}
        return {name: total / count if count else math.nan for name, (total, count) in sums.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Sums and counts, for a run that goes on in the middle of an interval."""
        return {_SEPARATOR.join(names): totals for names, totals in self._totals.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from saved sums and counts."""
        self._totals = {tuple(names.split(_SEPARATOR)): totals for names, totals in state.items()}


def rounded(value: float) -> float | None:
    """A number as it is logged; None, which JSON calls null, where it is not finite."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


class LogFile:
    """Records of a run, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a record.

        Raises:
            OSError: the disk refuses.
        """
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def cut_back(self, step: int) -> None:
        """Drop what was logged after a step, and a line that a kill left unfinished.

        Raises:
            OSError: the disk refuses.
        """
        try:
            lines = self._path.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return
        kept = [line for line in lines if _is_within(line, step)]
        if len(kept) < len(lines):
            atomic_write_bytes(self._path, b"".join(kept))


def _is_within(line: bytes, step: int) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        record = parse_json(line)
    except UnreadableFile:
        return False
    return isinstance(record, dict) and isinstance(record.get("step"), int) and record["step"] <= step


class Board:
    """The records for TensorBoard, where its package is installed; without it there are none."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Open the folder.

        Args:
            folder: of the event files.
            first_step: what an earlier run wrote from this step on is hidden.
        """
        self._writer = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info(
                "TensorBoard is not installed: numbers go to %s alone (pip install tensorboard)", LOG_FILE
            )
            return
        self._writer = SummaryWriter(os.fspath(folder), purge_step=first_step)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers of a step; those that are not finite are left out."""
        if self._writer is not None:
            for name, value in values.items():
                if math.isfinite(value):
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is waiting."""
        if self._writer is not None:
            self._writer.close()
