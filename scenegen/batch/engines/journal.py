"""What became of every task, on the disk: one JSON line each, appended as they end."""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from scenegen.batch.engines.tasks import EngineError, TaskRecord


class Journal:
    """A file of JSON lines that one run at a time appends to."""

    def __init__(self, path: Path) -> None:
        """Open the file, and make it where it is missing.

        Raises:
            EngineError: another run has it open.
            OSError: the disk refuses.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab+", buffering=0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.close()
            raise EngineError(
                f"{path}: another run writes these records; wait for its end, or choose another output"
            ) from error
        except OSError:
            pass  # no locks here, as on some network file systems
        self._file.seek(max(0, self._file.seek(0, 2) - 1))
        if self._file.read(1) not in (b"", b"\n"):
            self._file.write(b"\n")  # a run that was killed wrote half a line

    def add(self, record: TaskRecord) -> None:
        """Append a record, with the time in seconds since 1970."""
        line = json.dumps({**record.line(), "time": round(time.time(), 3)})
        self._file.write(f"{line}\n".encode())

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
