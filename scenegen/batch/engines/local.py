"""The local engine: this process, or several processes of this machine."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial

from scenegen.batch.engines.stream import TaskStream, Worker, WorkerDied
from scenegen.batch.engines.task_runner import TaskRunner
from scenegen.batch.engines.tasks import Task, TaskRecord, Work, WorkerNeeds

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_GPUS = "CUDA_VISIBLE_DEVICES"


class LocalEngine:
    """Tasks in this process, one after the other or in threads, or in several processes that it starts."""

    def __init__(
        self,
        workers: int = 1,
        needs: WorkerNeeds | None = None,
        *,
        is_apart: bool = False,
        in_threads: bool = False,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            workers: tasks at a time; more than one have a process each.
            needs: what each process gets.
            is_apart: whether one worker is a process too, so that its end is not that of this one.
            in_threads: whether several workers are threads of this process, for work that waits for programs
                or leaves Python's lock alone. Nothing has to be loaded again for them.
        """
        self._workers, self._needs = workers, needs or WorkerNeeds()
        self._is_apart, self._in_threads = is_apart, in_threads

    def run(self, tasks: Iterable[Task], work: Work) -> Iterator[TaskRecord]:
        """See `scenegen.batch.engines.tasks.Engine.run`; the work is opened when the first task is there."""
        if self._workers > 1 or self._is_apart:
            stream = TaskStream(partial(self._worker, work), self._workers, self._needs.max_retries)
            yield from stream.records(tasks)
            return
        runner = None
        for task in tasks:
            runner = runner or TaskRunner(work, is_apart=False)
            yield runner(task, attempts=1)

    def _worker(self, work: Work, place: int) -> Worker:
        return _ThreadWorker(work) if self._in_threads else _ProcessWorker(work, self._needs, place)


class _ThreadWorker:
    """One thread, which cannot end before its task does."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(1)

    def open(self) -> Future[None]:
        return self._pool.submit(self._open)

    def _open(self) -> None:
        self._runner = TaskRunner(self._work, is_apart=False)

    def submit(self, task: Task, attempts: int) -> Future[TaskRecord]:
        return self._pool.submit(self._runner, task, attempts)

    def reason(self, error: Exception) -> Exception:
        return error

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class _ProcessWorker:
    """One process; a pool of its own, so that its end is nobody else's."""

    def __init__(self, work: Work, needs: WorkerNeeds, place: int) -> None:
        self._work = work
        self._environment = _environment(needs, place)
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))

    def open(self) -> Future[None]:
        with _set(self._environment):  # the process starts with the first call
            return self._pool.submit(_open, self._work)

    def submit(self, task: Task, attempts: int) -> Future[TaskRecord]:
        try:
            return self._pool.submit(_run, task, attempts)
        except BrokenProcessPool as error:  # it died while it had nothing to do
            broken: Future[TaskRecord] = Future()
            broken.set_exception(error)
            return broken

    def reason(self, error: Exception) -> Exception:
        if isinstance(error, BrokenProcessPool):
            return WorkerDied("its worker process was killed, as a rule for lack of memory")
        return error

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _environment(needs: WorkerNeeds, place: int) -> dict[str, str]:
    """Variables of the worker of a place: its threads, and its GPUs among those that this process may see."""
    variables = dict(needs.environment)
    if needs.cpus is not None:
        variables |= dict.fromkeys(THREAD_VARIABLES, str(needs.cpus))
    if needs.gpus:
        first = int(place * needs.gpus + 1e-6)
        seen = [name for name in os.environ.get(_GPUS, "").split(",") if name]
        wanted = range(first, first + max(1, round(needs.gpus)))
        variables[_GPUS] = ",".join(seen[gpu] if gpu < len(seen) else str(gpu) for gpu in wanted)
    return variables


@contextmanager
def _set(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables for processes that are started in a ``with`` block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


# --- in the worker process ---------------------------------------------------------------------------------

_runner: list[TaskRunner] = []


def _open(work: Work) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _runner[:] = [TaskRunner(work, is_apart=True)]


def _run(task: Task, attempts: int) -> TaskRecord:
    return _runner[0](task, attempts)


def _end_with_parent() -> None:
    """Leave when the process that asks is gone: a pool's process would wait for it forever."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
