"""The processes of a run on this machine: their places in the run, how they start, and how they end."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any

import torch

from safe_files.regular import shown
from trellis_modules.config import ConfigError

logger = logging.getLogger(__name__)

DEFAULT_PORT = 12345
FAILED, AGAIN = 1, 75
"""Exit statuses of a process: it would fail again, or it may be tried again (EX_TEMPFAIL of sysexits.h)."""

_GRACE_S = 60.0  # for the others to end by themselves when one has ended
_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_PORT")


@dataclass(frozen=True)
class Place:
    """Which process of a run this is.

    Attributes:
        rank: among all processes.
        local_rank: among those of this machine.
        size: processes of the run.
        address, port: where rank 0 is reached.
    """

    rank: int = 0
    local_rank: int = 0
    size: int = 1
    address: str = "localhost"
    port: int = DEFAULT_PORT

    def device(self, wanted: torch.device) -> torch.device:
        """The device of this process: of several GPUs its own."""
        if wanted.type == "cuda" and wanted.index is None:
            return torch.device("cuda", self.local_rank)
        return wanted


def torchrun_place(environment: Mapping[str, str]) -> Place | None:
    """The place that the launcher of PyTorch, or a scheduler in its way, gives; None where there is none.

    Args:
        environment: RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.

    Raises:
        ConfigError: they are incomplete or make no sense.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return None
    numbers = {}
    for name in _TORCHRUN:
        text = environment.get(name, "0" if name == "LOCAL_RANK" else str(DEFAULT_PORT))
        if not text.isdecimal() or len(text) > 9:
            raise ConfigError(f"{name} of the environment: expected a whole number, got {shown(text)}")
        numbers[name] = int(text)
    rank, size = numbers["RANK"], numbers["WORLD_SIZE"]
    if rank >= size:
        raise ConfigError(f"RANK of the environment: expected 0 to WORLD_SIZE - 1 = {size - 1}, got {rank}")
    address = environment.get("MASTER_ADDR", "localhost")
    return Place(rank, numbers["LOCAL_RANK"], size, address, numbers["MASTER_PORT"])


def places(count: int, nodes: int, node_rank: int, address: str, port: int | None) -> list[Place]:
    """The places of the processes of this machine.

    Args:
        count: processes of each machine.
        nodes: machines.
        node_rank: of this one.
        address, port: where the first machine is reached; None takes a free port of a single machine.
    """
    if port is None:
        port = _free_port() if nodes == 1 and count > 1 else DEFAULT_PORT
    first = node_rank * count
    return [Place(first + local, local, nodes * count, address, port) for local in range(count)]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def run_processes(
    target: Callable[..., int], arguments: Sequence[Any], members: Sequence[Place], grace_s: float = _GRACE_S
) -> int:
    """Run a function in a process for each place, and wait for all of them.

    SIGTERM and Ctrl-C are passed on. When one process fails, the others are given some time to end by
    themselves, and are ended then.

    Args:
        target: function of a module: (place, *arguments) -> exit status.
        arguments: what spawned processes can be given.
        members: the places of this machine.
        grace_s: seconds that the others have.

    Returns:
        The exit status of the processes together: 0, `AGAIN` where one was lost or may be tried again, or
        that of the first process that failed otherwise.
    """
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_enter, args=(target, place, arguments), name=f"rank {place.rank}")
        for place in members
    ]
    for process in processes:
        process.start()
    with _passing_signals_on(processes):
        ended_by_us = _wait_for(processes, grace_s)
    codes = {process.name: process.exitcode or 0 for process in processes if process not in ended_by_us}
    for name, code in codes.items():
        if code < 0:
            logger.error("%s was ended by %s", name, signal.Signals(-code).name)
    failed = [code for code in codes.values() if code > 0 and code != AGAIN]
    if failed:
        return failed[0]
    return AGAIN if any(codes.values()) else 0


def _enter(target: Callable[..., int], place: Place, arguments: Sequence[Any]) -> None:
    os.environ.update(
        RANK=str(place.rank),
        LOCAL_RANK=str(place.local_rank),
        WORLD_SIZE=str(place.size),
        MASTER_ADDR=place.address,
        MASTER_PORT=str(place.port),
    )
    sys.exit(target(place, *arguments))


def _wait_for(processes: Sequence[BaseProcess], grace_s: float) -> list[BaseProcess]:
    """Wait for the end of all; after a failure the others, which are returned, are ended in the end."""
    alive, until, endings = list(processes), None, ["terminate", "kill"]
    ended: list[BaseProcess] = []
    while alive:
        left = None if until is None else max(0.0, until - time.monotonic())
        wait([process.sentinel for process in alive], left)
        alive = [process for process in alive if process.is_alive()]
        if until is None and any(process.exitcode for process in processes if process not in alive):
            until = time.monotonic() + grace_s
        elif until is not None and time.monotonic() >= until and endings:
            ending, ended = endings.pop(0), ended or alive
            for process in alive:
                getattr(process, ending)()
            until = time.monotonic() + grace_s
    return ended


@contextmanager
def _passing_signals_on(processes: Sequence[BaseProcess]) -> Iterator[None]:
    """Pass signals on for the length of a ``with`` block; in threads, where none arrive, nothing is done."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for process in processes:
            if process.is_alive():
                process.terminate()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
