"""Processes with all that they have started, also in sessions of their own."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def tree(pid: int) -> list[int]:
    """A process and all below it, the deepest first."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[::-1]


def kill_tree(pid: int) -> None:
    """Kill a process and all below it, as the loss of their machine would."""
    for each in tree(pid):
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue
