"""The demo as a process of its own, as people start it."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
MIB = 2**20
_READY_SECONDS, _END_SECONDS = 300.0, 60.0


@dataclass(frozen=True)
class RunningDemo:
    """A demo that answers.

    Attributes:
        url: of its page, without a slash at the end.
        pid: of its process.
        ready_seconds: from its start to the first whole page.
    """

    url: str
    pid: int
    ready_seconds: float


@contextmanager
def running_demo(arguments: Sequence[str]) -> Iterator[RunningDemo]:
    """Start ``interactive_demo.py``, and stop it as Ctrl-C does at the end of the block.

    Raises:
        RuntimeError: it ended, or did not answer in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    command = [sys.executable, str(REPOSITORY / "interactive_demo.py"), "--port", str(port), *arguments]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for_page(url, process)
        yield RunningDemo(url, process.pid, time.perf_counter() - start)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_END_SECONDS)


def memory_mib(pid: int | str = "self") -> float:
    """Memory that a process holds now; where the system does not tell, the most that this one ever held."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    return pages * resource.getpagesize() / MIB


def _wait_for_page(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the demo ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=30) as page:
                page.read()
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.05)
    raise RuntimeError(f"the demo did not answer within {_READY_SECONDS:.0f} s")
