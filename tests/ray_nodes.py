"""Nodes of a Ray cluster on this machine, each a tree of processes that can be killed."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.process_trees import kill_tree, tree

ROOT = Path(__file__).resolve().parents[1]
_STORE_BYTES = 100_000_000
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
_SECONDS = 90  # for a node to start on a busy machine


class RayNode:
    """One node with one CPU, as ``ray start --block`` runs it."""

    def __init__(self, folder: Path, head: RayNode | None = None) -> None:
        """Start a node.

        Args:
            folder: for its log; that of the head must have a short path, in which Ray makes its sockets.
            head: of the cluster that it joins; None starts a cluster.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "node.log"
        if head is None:
            self.address = f"127.0.0.1:{_free_port()}"
            place = ["--head", "--port", self.address.rpartition(":")[2], "--include-dashboard=false"]
            place += [f"--temp-dir={folder}"]
        else:
            self.address = head.address
            place = ["--address", self.address]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *place]
        command += ["--node-ip-address=127.0.0.1", "--num-cpus=1", "--num-gpus=0", "--disable-usage-stats"]
        command += [f"--object-store-memory={_STORE_BYTES}"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        environment["RAY_AUTH_MODE"] = "disabled"  # it listens on loopback alone
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=_end_with_the_test,
            )
        end = time.monotonic() + _SECONDS
        while "runtime started" not in self._log.read_text():
            assert self.process.poll() is None and time.monotonic() < end, self._log.read_text()
            time.sleep(0.2)

    def workers(self) -> list[int]:
        """Processes of its actors, by their ids."""
        return [pid for pid in tree(self.process.pid) if b"_Actor" in _command(pid)]

    def kill(self) -> None:
        """Kill every process of the node, as the loss of its machine would."""
        kill_tree(self.process.pid)
        self.process.wait()


@contextmanager
def ray_nodes(folder: Path, count: int) -> Iterator[list[RayNode]]:
    """A cluster of nodes with a CPU each, the head first, for the length of a block."""
    nodes: list[RayNode] = []
    try:
        for number in range(count):
            nodes.append(RayNode(folder / str(number), nodes[0] if nodes else None))
        yield nodes
    finally:
        for node in reversed(nodes):
            node.kill()


def _end_with_the_test() -> None:
    """Let the system tell the node to stop when the process that started it is gone, however it ended."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _free_port() -> int:
    """A port that nobody listens on, below those that Ray gives to workers."""
    for port in range(6400, 9900):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise OSError("no free port below 9900")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
