"""What an engine takes and gives: tasks, the work that is done with each of them, and records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

Status = Literal["done", "skipped", "failed"]


class EngineError(RuntimeError):
    """Tasks that cannot be worked on at all; the message says why in one line."""


@dataclass(frozen=True)
class Task:
    """A scene or an asset to work on; can be pickled.

    Attributes:
        id: its name, unlike that of any other task of a run.
        settings: what the work has to know about this task beyond what it knows about all.
        inputs: names of the files and folders that it reads, below the root of the inputs.
        outputs: names of the files and folders that it makes, below the root of the outputs.
    """

    id: str
    settings: Any = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaskResult:
    """What a work gave for a task; can be pickled.

    Attributes:
        value: for the caller of the engine.
        error: one line, where the task failed.
        is_skipped: whether there was nothing to do.
    """

    value: Any = None
    error: str | None = None
    is_skipped: bool = False


@dataclass(frozen=True)
class TaskRecord:
    """What became of a task.

    Attributes:
        id: of the task.
        status: "done", "skipped" or "failed".
        host: name of the machine that worked on it.
        device: that the work used there.
        seconds: that it took, without waiting.
        attempts: how many workers were given the task; all but the last one died with it.
        error: one line, where it failed.
        value: what the work gave; None where no worker lived long enough.
        messages: what was logged meanwhile: name of the logger, level and text.
    """

    id: str
    status: Status
    host: str = ""
    device: str = ""
    seconds: float = 0.0
    attempts: int = 1
    error: str | None = None
    value: Any = None
    messages: tuple[tuple[str, int, str], ...] = field(default=(), repr=False)

    def line(self) -> dict[str, Any]:
        """What a journal keeps, as JSON types."""
        kept = asdict(self, dict_factory=lambda pairs: {k: v for k, v in pairs if k not in _NOT_KEPT})
        return {**kept, "seconds": round(self.seconds, 3)}


_NOT_KEPT = ("value", "messages")

TaskFunction = Callable[[Task], TaskResult]


class Work(Protocol):
    """What is done with every task of a run; can be pickled.

    Attributes:
        device: name of the device that it uses, for records.
    """

    device: str

    def open(self) -> TaskFunction:
        """Load what all tasks need, once in each worker, and return what works on a task.

        Faults of a task are its result. What the function raises, or this method, ends the run.
        """


class Engine(Protocol):
    """Where the work is done."""

    def run(self, tasks: Iterable[Task], work: Work) -> Iterator[TaskRecord]:
        """Work on tasks and yield a record for each, in the order in which they end.

        Tasks are taken as workers become free, so that there may be any number of them. Once the caller
        stops, no further task is begun and the workers end.

        Raises:
            EngineError: no worker can be had, or they die before they begin.
            Exception: what the work raised.
        """


@dataclass(frozen=True)
class WorkerNeeds:
    """What each worker gets, and how often a task is tried.

    Attributes:
        cpus: threads of PyTorch and of its libraries; None leaves them as they are.
        gpus: share of a GPU, or number of GPUs; 0 where the work needs none.
        max_retries: how many more workers get a task whose worker died.
        environment: further environment variables.
    """

    cpus: int | None = None
    gpus: float = 0.0
    max_retries: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
