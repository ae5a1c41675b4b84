"""Runs of a command that can be killed at any time: each is forked from a process that has imported all.

A fork takes milliseconds where a start takes seconds. The process that forks runs nothing itself, so that no
thread is lost with it; it is started by `forked_runs` and reads one order a line.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Run:
    """How a run ended.

    Attributes:
        status: exit status; None where it was killed.
        seconds: that it took.
        lines: what it wrote to standard error.
    """

    status: int | None
    seconds: float
    lines: list[str]


class Runner:
    """Asks the forking process for runs of one command."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder, self._number = process, folder, 0

    def start(self, *arguments: object) -> int:
        """Start a run and return its number."""
        self._number += 1
        log = self._folder / f"{self._number}.log"
        self._ask({"start": [str(argument) for argument in arguments], "log": str(log)})
        return self._number

    def wait(self, number: int, kill_after: float | None = None) -> Run:
        """Wait for the end of a run, or kill it and all that it started so many seconds after its start."""
        answer = self._ask({"wait": number, "kill_after": kill_after})
        log = self._folder / f"{number}.log"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []  # killed before it wrote
        return Run(answer["status"], answer["seconds"], lines)

    def run(self, *arguments: object, kill_after: float | None = None) -> Run:
        """Start a run and wait for it."""
        return self.wait(self.start(*arguments), kill_after)

    def _ask(self, order: dict[str, object]) -> dict[str, object]:
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@contextmanager
def forked_runs(command: str, folder: Path, modules: Sequence[str] = ()) -> Iterator[Runner]:
    """A runner of one command, for the length of a ``with`` block.

    Args:
        command: module with ``main(arguments)``.
        folder: for the logs of the runs.
        modules: that the command imports when it runs.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, __file__, command, *modules]
    process = subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )
    try:
        assert json.loads(process.stdout.readline()) == "ready"
        yield Runner(process, folder)
    finally:
        process.stdin.close()
        process.wait()


def _serve(command: str, modules: Sequence[str]) -> None:
    main = importlib.import_module(command).main
    for name in modules:
        importlib.import_module(name)
    started: dict[int, tuple[int, float]] = {}
    answers = os.fdopen(os.dup(1), "w")
    _answer(answers, "ready")
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            started[len(started) + 1] = _fork(main, order["start"], order["log"]), time.monotonic()
            _answer(answers, {})
        else:
            process, start = started[order["wait"]]
            _answer(answers, _end(process, start, order["kill_after"]))


def _answer(answers, value: object) -> None:
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def _fork(main, arguments: list[str], log: str) -> int:
    process = os.fork()
    if process:
        return process
    os.setsid()  # what it starts is killed with it
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        status = main(arguments)
    except SystemExit as error:
        status = error.code
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 99
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


def _end(process: int, start: float, kill_after: float | None) -> dict[str, object]:
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        seconds = time.monotonic() - start
        if done:
            break
        if kill_after is not None and seconds >= kill_after:
            try:
                os.killpg(process, signal.SIGKILL)
            except ProcessLookupError:  # it has no group of its own yet
                os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            break
        time.sleep(0.002)
    exit_status = None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    return {"status": exit_status, "seconds": time.monotonic() - start}


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
