"""Scenes that wait for a device and are made on it: one at a time on each, first come, first served."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from scenegen.export.scene_files import ExportError
from scenegen.inputs.image_files import SceneInputError
from scenegen.pipelines.progress import Cancelled, Progress
from trellis_modules.checkpoint import CheckpointError
from trellis_modules.memory import release_memory

logger = logging.getLogger(__name__)

JobState = Literal["waiting", "running", "done", "failed", "cancelled"]


class Busy(RuntimeError):
    """No further job is taken at the moment."""


@dataclass(eq=False)
class Job:
    """A piece of work for one device.

    Attributes:
        work: does it, on the device it is given; it asks `should_stop` often and reports its progress.
        state: what has become of the job.
        progress: where its work is; None before the first report.
        error: one line, for a failed job.
        submitted, started, ended: seconds of `time.monotonic`; None for what has not happened.
    """

    work: Callable[[Job, torch.device], None] | None
    state: JobState = "waiting"
    progress: Progress | None = None
    error: str | None = None
    submitted: float = field(default_factory=time.monotonic)
    started: float | None = None
    ended: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _finished: threading.Event = field(default_factory=threading.Event)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self._finished.is_set()

    @property
    def seconds(self) -> float:
        """How long the job has been worked on."""
        if self.started is None:
            return 0.0
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    def should_stop(self) -> bool:
        """Whether somebody asked to cancel the job."""
        return self._stop.is_set()

    def report(self, progress: Progress) -> None:
        """Note where the work is.

        Raises:
            Cancelled: somebody asked to cancel the job.
        """
        self.progress = progress
        if self.should_stop():
            raise Cancelled("the scene was cancelled")

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end of the job; False where it did not come in time."""
        return self._finished.wait(seconds)

    def _finish(self, state: JobState, error: str | None = None) -> None:
        self.state, self.error, self.ended = state, error, time.monotonic()
        self.work = None  # it holds photos and masks
        self._finished.set()


class JobQueue:
    """Jobs in their order, and one thread for each device."""

    def __init__(self, devices: Sequence[torch.device], max_waiting: int) -> None:
        """Start without any job.

        Args:
            devices: each runs one job at a time.
            max_waiting: jobs that may wait beside those that run.
        """
        self._max_waiting = max_waiting
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._changed = threading.Condition()
        self._is_closed = False
        self._threads = [
            threading.Thread(target=self._serve, args=(device,), name=f"scenes on {device}", daemon=True)
            for device in devices
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, *, first: bool = False) -> Job:
        """Let a job wait for a device.

        Args:
            job: not submitted yet.
            first: before all that wait, for short work.

        Raises:
            Busy: too many jobs wait.
        """
        with self._changed:
            if self._is_closed:
                raise Busy("the demo is being stopped; start it again")
            if len(self._waiting) >= self._max_waiting:
                raise Busy(
                    f"expected at most {self._max_waiting} scenes to wait, as many wait already; try again "
                    "in some minutes"
                )
            (self._waiting.appendleft if first else self._waiting.append)(job)
            self._changed.notify()
        return job

    def place(self, job: Job) -> int:
        """How many jobs come before this one, those that run included; 0 where it does not wait."""
        with self._changed:
            if job not in self._waiting:
                return 0
            return self._waiting.index(job) + len(self._running)

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue, or ask it to stop where it runs already."""
        job._stop.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                job._finish("cancelled")

    def close(self) -> None:
        """Cancel all jobs and end the threads."""
        with self._changed:
            self._is_closed = True
            jobs = [*self._waiting, *self._running]
            self._changed.notify_all()
        for job in jobs:
            self.cancel(job)
        for thread in self._threads:
            thread.join()

    def _serve(self, device: torch.device) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                job = self._waiting.popleft()
                self._running.add(job)
            state, error = _run(job, device)
            release_memory()
            with self._changed:
                self._running.discard(job)
            job._finish(state, error)
            del job  # the loop would keep it until the next one comes


def _run(job: Job, device: torch.device) -> tuple[JobState, str | None]:
    """Do the work of a job; what goes wrong is returned in one line, and the next job is not affected."""
    job.started, job.state = time.monotonic(), "running"
    try:
        job.work(job, device)
    except Cancelled:
        return "cancelled", None
    except (SceneInputError, ExportError, CheckpointError) as error:
        logger.error("%s", error)
        return "failed", str(error)
    except (torch.OutOfMemoryError, MemoryError):
        logger.error("%s: out of memory", device)
        return "failed", (
            f"expected the scene to fit into the memory of {device}, it does not; use fewer objects, a "
            "smaller texture, or start the demo with --low-vram"
        )
    except OSError as error:
        logger.error("%s", error)
        return "failed", f"expected to write the scene, the disk refuses ({error}); free some space"
    except Exception as error:  # whatever it is: one scene must not end the worker that serves everybody
        logger.exception("a scene was stopped by an error that is not a fault of its input")
        cause = f"{type(error).__name__}: {error}".partition("\n")[0]
        return "failed", f"the scene was stopped by an error ({cause}); the log of the demo has the details"
    return "done", None
