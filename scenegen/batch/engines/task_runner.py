"""The part of every engine that runs beside the work: it opens the work, and makes records of tasks."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from scenegen.batch.engines.tasks import Task, TaskRecord, Work


class TaskRunner:
    """A work that is open, in the process that does it."""

    def __init__(self, work: Work, is_apart: bool) -> None:
        """Open the work.

        Args:
            work: any.
            is_apart: whether the caller of the engine is another process, which gets what is logged with the
                records; otherwise it is logged at once.
        """
        self._run = work.open()
        self._device, self._is_apart = work.device, is_apart
        self._host = socket.gethostname()

    def __call__(self, task: Task, attempts: int) -> TaskRecord:
        """Work on a task that so many workers have been given, this one counted."""
        start = time.perf_counter()
        with _messages(self._is_apart) as messages:
            result = self._run(task)
        seconds = time.perf_counter() - start
        status = "failed" if result.error is not None else "skipped" if result.is_skipped else "done"
        return TaskRecord(
            task.id,
            status,
            self._host,
            self._device,
            seconds,
            attempts,
            result.error,
            result.value,
            tuple(messages),
        )


class _Collector(logging.Handler):
    """Keeps what is logged as texts: the records of `logging` may hold what cannot be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.name, record.levelno, self.format(record)))


@contextmanager
def _messages(is_apart: bool) -> Iterator[list[tuple[str, int, str]]]:
    """What is logged in a ``with`` block, for whoever lives in another process."""
    collector = _Collector()
    if not is_apart:
        yield collector.kept
        return
    root = logging.getLogger()
    root.addHandler(collector)
    try:
        yield collector.kept
    finally:
        root.removeHandler(collector)
