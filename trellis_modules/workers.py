"""Processes that run functions which keep Python's lock, such as those of compiled mesh libraries.

The processes are started as programs of their own, so that neither a GPU nor the caller's main module reaches
them, and end when the process that started them does.
"""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

_BOOT = "from trellis_modules.workers import serve; serve({modules!r})"
_ROOT = str(Path(__file__).resolve().parent.parent)  # where this package was imported from
_SECONDS_TO_END = 2.0
_LENGTH_BYTES = 8


class WorkerLost(RuntimeError):
    """A process ended before it had answered, as one does that the system stops for want of memory."""


class Workers:
    """Some processes that wait for calls; a call waits for the first process that is free.

    Attributes:
        count: of processes.
        owner: id of the process that started them; what is forked from it must not call them.
    """

    def __init__(self, count: int, modules: Sequence[str] = ()) -> None:
        """Start the processes, which import what they need meanwhile.

        Args:
            count: at least 1.
            modules: names of modules to import at once.
        """
        command = [sys.executable, "-c", _BOOT.format(modules=list(modules))]
        places = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment = os.environ | one_thread | {"PYTHONPATH": places}
        self._free: queue.SimpleQueue[subprocess.Popen] = queue.SimpleQueue()
        processes = []
        for _ in range(count):
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
            )
            processes.append(process)
            self._free.put(process)
        self.count, self.owner = count, os.getpid()
        self._processes = processes
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="worker")
        self._end = weakref.finalize(self, _end, processes, self.owner)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Call a function of a module in a free process; warnings that it logs are logged here.

        The future has its result or its exception, or `WorkerLost`.
        """
        return self._threads.submit(_call, self._free, function, arguments)

    @property
    def alive(self) -> bool:
        """Whether no process is lost."""
        return all(process.poll() is None for process in self._processes)

    def close(self) -> None:
        """End the processes; calls that have not begun are cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._end()


def _call(free: queue.SimpleQueue, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    process = free.get()
    try:
        _send(process.stdin, (function, arguments))
        succeeded, answer, messages = _receive(process.stdout)
    except (EOFError, OSError) as error:
        raise WorkerLost(f"a worker process ended with status {process.poll()}") from error
    finally:
        free.put(process)
    for name, level, text in messages:
        logging.getLogger(name).log(level, "%s", text)
    if succeeded:
        return answer
    raise answer


def _send(stream: BinaryIO, value: Any) -> None:
    data = pickle.dumps(value, protocol=5)
    stream.write(len(data).to_bytes(_LENGTH_BYTES, "little"))
    stream.write(data)
    stream.flush()


def _receive(stream: BinaryIO) -> Any:
    length = int.from_bytes(_read(stream, _LENGTH_BYTES), "little")
    return pickle.loads(_read(stream, length))  # from a process of ours


def _read(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _end(processes: Sequence[subprocess.Popen], owner: int) -> None:
    """Ask the processes to end, and end those that do not."""
    if os.getpid() != owner:
        return
    for process in processes:
        try:
            process.stdin.close()
        except OSError:
            pass  # it is gone, with something unsent
    for process in processes:
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


class _Messages(logging.Handler):
    """Keeps what is logged, for the process that asked."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.kept: list[tuple[str, int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record.name, record.levelno, record.getMessage()))


def serve(modules: Sequence[str]) -> None:
    """Answer calls until the caller is gone: what a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the caller ends this process
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    for module in modules:
        importlib.import_module(module)
    messages = _Messages()
    logging.getLogger().addHandler(messages)
    while True:
        messages.kept = []
        try:
            function, arguments = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            answer = True, function(*arguments)
        except Exception as error:  # whatever it is, the caller gets it
            answer = False, error
        try:
            _send(answers, (*answer, messages.kept))
        except BrokenPipeError:
            return
