"""A work on files in object stores: they are brought to this machine before a task, and back after it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from scenegen.batch.engines.tasks import EngineError, Task, TaskFunction, TaskResult, Work
from scenegen.stores.shared_copies import SharedCopies, file_state, local_files
from scenegen.stores.store import DISK_ERRORS, Store
from scenegen.stores.urls import StoreError, StoreUrl

_LAST = ("poses.json", "transforms.json")
"""Files by which a folder counts as finished: they go first and come last."""


@dataclass(frozen=True)
class MirroredWork:
    """A work that reads and writes below local folders, with what belongs there in stores.

    A task that is interrupted leaves nothing in the store that looks finished. Local copies of what a task
    read and wrote are removed after it.

    Attributes:
        work: reads below ``inputs.mirror`` and writes below ``outputs.mirror``.
        inputs, outputs: None for what is on the disk.
        reads_made: whether a finished task reads what was made before alone, so that its inputs stay where
            they are.
    """

    work: Work
    inputs: StoreUrl | None
    outputs: StoreUrl | None
    reads_made: bool = False

    @property
    def device(self) -> str:
        """That of the work."""
        return self.work.device

    def open(self) -> TaskFunction:
        """Open the work; see there for the errors, and `Store`.

        A disk that refuses copies ends the run with an `EngineError`.
        """
        return _MirroredTasks(self)


class _MirroredTasks:
    def __init__(self, work: MirroredWork) -> None:
        self._run = work.work.open()
        self._inputs = Store(work.inputs) if work.inputs else None
        self._outputs = Store(work.outputs) if work.outputs else None
        self._reads_made = work.reads_made

    def __call__(self, task: Task) -> TaskResult:
        with ExitStack() as local:
            try:
                made = self._bring(self._outputs, task.outputs, local)
                if not (self._reads_made and self._is_all_there(task, made)):
                    self._bring(self._inputs, task.inputs, local)
                result = self._run(task)
                if self._outputs is not None and result.error is None and not result.is_skipped:
                    self._deliver(self._outputs, task.outputs, made)
            except StoreError as error:
                return TaskResult(error=f"{task.id}: {error}")
            except OSError as error:
                if error.errno in DISK_ERRORS:  # all further tasks would fail here, and quickly
                    raise full_disk(error) from error
                raise
        return result

    @staticmethod
    def _is_all_there(task: Task, made: dict[str, tuple[int, int]]) -> bool:
        return all(any(_is_below(file, name) for file in made) for name in task.outputs)

    @staticmethod
    def _bring(store: Store | None, names: Sequence[str], local: ExitStack) -> dict[str, tuple[int, int]]:
        """Fetch files, and remove the local ones at the end of a block; what each of them is like."""
        if store is None:
            return {}
        copies = SharedCopies(store)
        local.callback(copies.remove)
        return copies.bring(names)

    @staticmethod
    def _deliver(store: Store, names: Sequence[str], before: dict[str, tuple[int, int]]) -> None:
        """Put what is new or changed into the store, and remove there what is gone here."""
        folder = store.url.mirror
        files = [file for name in names for file in local_files(folder, name)]
        changed = [file for file in files if before.get(file) != file_state(folder / file)]
        gone = [file for file in before if file not in files]
        if changed or gone:
            for file in [file for file in before if file in changed and Path(file).name in _LAST]:
                store.remove(file)
        for file in gone:
            store.remove(file)
        for file in sorted(changed, key=lambda file: Path(file).name in _LAST):
            store.deliver(folder, file)


def full_disk(error: OSError) -> EngineError:
    """One line for a disk of a worker that refuses, which ends a run: no task would survive it."""
    return EngineError(
        f"{socket.gethostname()}: expected to write copies of stored files, the disk refuses ({error}); make "
        "space there, or name a folder on another disk in SCENEGEN_CACHE, and run the same command again: "
        "what is finished stays"
    )


def _is_below(file: str, name: str) -> bool:
    return file == name or file.startswith(f"{name}/")
