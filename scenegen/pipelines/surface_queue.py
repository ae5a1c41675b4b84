"""Meshes of a scene that processes clean and unwrap while further ones are decoded and coloured."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

import torch

from scenegen.pipelines.texturing import TextureSettings, preparation_of
from trellis_modules.postprocess import PreparedSurface, prepare_surface
from trellis_modules.representations.mesh.mesh_result import MeshExtractResult
from trellis_modules.workers import WorkerLost, Workers

logger = logging.getLogger(__name__)

MAX_WORKERS = 8
"""Processes that clean and unwrap meshes at most; each holds one mesh of some 50 MB."""

WORKERS_VARIABLE = "SCENEGEN_WORKERS"
"""Environment variable: how many of them at most, 0 for none; unset or "auto": one less than threads."""

_SECONDS_BETWEEN_CHECKS = 0.05


class WorkerPool:
    """The processes of a pipeline: started with the first scene that needs them, and kept for others."""

    def __init__(self) -> None:
        self._workers: Workers | None = None

    def ready(self, settings: TextureSettings | None, num_objects: int) -> Workers | None:
        """Processes for the objects of a scene; None where they would not help.

        They do not for a single object, with a single thread (``torch.set_num_threads``), and for surfaces as
        released, whose hidden faces are found by the device of the networks.

        Raises:
            ValueError: the environment variable is neither "auto" nor a number.
        """
        count = min(num_objects, _most_workers())
        if settings is None or settings.surface != "solid" or num_objects < 2 or count < 1:
            return None
        if self._workers is not None and self._workers.owner != os.getpid():
            self._workers = None  # this process was forked from the one that they belong to
        if self._workers is None or self._workers.count < count or not self._workers.alive:
            self.close()
            self._workers = Workers(count, ["trellis_modules.postprocess.preparation"])
        return self._workers

    def close(self) -> None:
        """End the processes."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None


def _most_workers() -> int:
    wanted = os.environ.get(WORKERS_VARIABLE, "auto")
    if wanted == "auto":
        return min(torch.get_num_threads() - 1, MAX_WORKERS)  # this process works, too
    if not wanted.isdecimal():
        raise ValueError(
            f"environment variable {WORKERS_VARIABLE}: expected auto or a number, got {wanted!r}"
        )
    return min(int(wanted), MAX_WORKERS)


class SurfaceQueue:
    """The meshes of one scene on their way through the processes."""

    def __init__(
        self,
        workers: Workers | None,
        settings: TextureSettings,
        watertight: bool,
        check: Callable[[], None],
        device: torch.device | None = None,
    ) -> None:
        """Take the processes.

        Args:
            workers: of a `WorkerPool`; None does the work here, when it is asked for.
            settings: of all objects.
            watertight: see `texture_mesh`.
            check: called while a surface is waited for; what it raises ends the waiting.
            device: see `preparation_of`.
        """
        self._workers, self._settings, self._watertight = workers, settings, watertight
        self._check, self._device = check, device
        self._calls: dict[int, tuple[Future | None, tuple]] = {}

    def begin(self, row: int, mesh: MeshExtractResult, num_faces: int | None) -> None:
        """Have the mesh of an object cleaned and unwrapped; ``num_faces`` as in `texture_mesh`."""
        arguments = preparation_of(mesh, self._settings, num_faces, self._watertight, self._device)
        future = None if self._workers is None else self._workers.submit(prepare_surface, *arguments)
        self._calls[row] = future, arguments

    def take(self, row: int, on_piece: Callable[[int], object] | None = None) -> PreparedSurface | None:
        """Wait for the surface of an object; None where no face is left.

        The work is done here where no process has begun it. ``on_piece`` is told of it then, as in
        `prepare_surface`.

        Raises:
            ValueError: see `prepare_surface`.
        """
        future, arguments = self._calls.pop(row)
        self._check()
        if future is None or future.cancel():
            return prepare_surface(*arguments, on_piece=on_piece)
        while True:
            self._check()
            try:
                return future.result(_SECONDS_BETWEEN_CHECKS)
            except FutureTimeout:
                continue
            except WorkerLost as error:
                logger.warning("%s; the mesh is cleaned and unwrapped here", error)
                return prepare_surface(*arguments)

    def cancel(self) -> None:
        """Begin no further mesh."""
        for future, _ in self._calls.values():
            if future is not None:
                future.cancel()
