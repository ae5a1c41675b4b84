"""Works of engines for tests: they can be pickled, and do what the settings of a task say."""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from scenegen.batch.engines.tasks import Task, TaskResult

logger = logging.getLogger("scenegen.inputs.engine_works")


@dataclass(frozen=True)
class Deeds:
    """Does what the settings of a task say, and gives the number of its process.

    Attributes:
        folder: gets a line for each task that is begun, in a file named after it.
        fault: raised when the work is opened.
    """

    folder: Path
    fault: Exception | None = None
    device: str = "cpu"

    def open(self):
        if self.fault is not None:
            raise self.fault
        return self.run

    def run(self, task: Task) -> TaskResult:
        with (self.folder / task.id).open("a") as file:
            file.write("begun\n")
        deed, _, argument = (task.settings or "").partition(" ")
        if deed == "die" or (deed == "die-once" and self.times(task.id) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "sleep":
            time.sleep(float(argument))
        if deed == "raise":
            raise ValueError(f"{task.id}: raised")
        if deed == "warn":
            logger.warning("%s: warned", task.id)
        if deed == "fail":
            return TaskResult(error=f"{task.id}: failed")
        return TaskResult(os.getpid(), is_skipped=deed == "skip")

    def times(self, name: str) -> int:
        """How often a task was begun."""
        path = self.folder / name
        return len(path.read_text().splitlines()) if path.exists() else 0
