"""The Ray engine: one actor a worker, on whatever machines the cluster has."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from scenegen.batch.engines.stream import TaskStream, WorkerDied
from scenegen.batch.engines.task_runner import TaskRunner
from scenegen.batch.engines.tasks import EngineError, Task, TaskRecord, Work, WorkerNeeds

if TYPE_CHECKING:
    from types import ModuleType

ADDRESS = "auto"
_SECONDS = 5.0  # for an answer of the cluster
_THREADS = "OMP_NUM_THREADS"


class RayEngine:
    """Tasks on the actors of a Ray cluster, each of which opens the work once."""

    def __init__(
        self, workers: int | None = None, needs: WorkerNeeds | None = None, address: str | None = None
    ) -> None:
        """Prepare; the cluster is asked when tasks are run.

        Args:
            workers: actors; None takes as many as there is room for in the cluster.
            needs: what each of them gets; a worker takes at least one CPU from the cluster.
            address: of the cluster; None takes that of the environment variable ``RAY_ADDRESS``, or the one
                that runs on this machine.
        """
        self._workers, self._needs = workers, needs or WorkerNeeds()
        self._address = address or os.environ.get("RAY_ADDRESS") or ADDRESS

    def run(self, tasks: Iterable[Task], work: Work) -> Iterator[TaskRecord]:
        """See `scenegen.batch.engines.tasks.Engine.run`."""
        ray = connect(self._address)
        try:
            count = self._count(ray.cluster_resources())
            shared = ray.put(work)
            make = ray.remote(_Actor).options(
                num_cpus=self._needs.cpus or 1,
                num_gpus=self._needs.gpus,
                max_restarts=0,
                scheduling_strategy="SPREAD",
                runtime_env={"env_vars": self._variables()},
            )
            stream = TaskStream(lambda place: _RayWorker(ray, make, shared), count, self._needs.max_retries)
            yield from stream.records(tasks)
        finally:
            ray.shutdown()

    def _variables(self) -> dict[str, str]:
        """Environment of the workers; Ray otherwise sets the threads to the CPUs of an actor."""
        threads = self._needs.cpus or os.environ.get(_THREADS)
        return {**self._needs.environment, **({_THREADS: str(threads)} if threads else {})}

    def _count(self, resources: dict[str, float]) -> int:
        """How many workers there will be.

        Raises:
            EngineError: the cluster has no room for so many.
        """
        cpus, gpus = self._needs.cpus or 1, self._needs.gpus
        room = int(resources.get("CPU", 0) / cpus + 1e-6)
        if gpus:
            room = min(room, int(resources.get("GPU", 0) / gpus + 1e-6))
        if room < (self._workers or 1):
            wanted = f"{self._workers or 1} workers with {cpus} CPUs and {gpus:g} GPUs each"
            raise EngineError(
                f"{self._address}: expected room for {wanted}, the cluster has "
                f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs, enough for {room}; "
                "give fewer --workers, a smaller --gpus-per-worker, or add nodes"
            )
        return self._workers or room


def connect(address: str) -> ModuleType:
    """Join a Ray cluster as a driver, and return the package.

    Raises:
        EngineError: Ray is not installed, no cluster answers at the address, or one of another version.
    """
    try:
        import ray
    except ImportError as error:
        raise EngineError(
            "--engine ray expects the package 'ray', which is not installed; run bash setup.sh --ray"
        ) from error
    try:
        _check_answers(address)  # Ray would try for many minutes, and write a line each time
        ray.init(
            address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=False,
            namespace="scenegen",
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise EngineError(
            f"--address {address}: expected a Ray cluster of version {ray.__version__}, got: {reason}; start "
            "one with 'ray start --head', correct the address, or set RAY_AUTH_MODE=token where it asks for "
            "a token"
        ) from error
    return ray


def _check_answers(address: str) -> None:
    """Refuse an address at which nobody listens.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_SECONDS).close()


class _Actor:
    """A worker as Ray runs it."""

    def open(self, work: Work, folder: str) -> None:
        if os.path.isdir(folder):  # in which relative paths of the work mean what they mean for its caller
            os.chdir(folder)
        self._runner = TaskRunner(work, is_apart=True)

    def run(self, task: Task, attempts: int) -> TaskRecord:
        return self._runner(task, attempts)


class _RayWorker:
    """One actor, as the stream of tasks sees it."""

    def __init__(self, ray: ModuleType, make: Any, work: Any) -> None:
        self._ray, self._work = ray, work
        self._actor = make.remote()

    def open(self) -> Future[None]:
        return self._actor.open.remote(self._work, os.getcwd()).future()

    def submit(self, task: Task, attempts: int) -> Future[TaskRecord]:
        return self._actor.run.remote(task, attempts).future()

    def reason(self, error: Exception) -> Exception:
        if isinstance(error, self._ray.exceptions.RayActorError | self._ray.exceptions.NodeDiedError):
            return WorkerDied("its worker died, by lack of memory, a signal or the end of its node")
        cause = getattr(error, "cause", error)
        if isinstance(cause, RuntimeError | ValueError | OSError):  # one line, which lacks the host
            return EngineError(f"worker on {getattr(error, 'ip', '?')}: {cause}")
        return cause

    def close(self) -> None:
        self._ray.kill(self._actor)
