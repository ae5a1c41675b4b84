"""How tasks get to workers and back: bounded, in whatever order they end, and past workers that die."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

from scenegen.batch.engines.tasks import EngineError, Task, TaskRecord

logger = logging.getLogger(__name__)

_SHORT = 0.5  # seconds; of such tasks a worker holds a second one, so that it never waits
_PATIENCE = 60.0  # seconds without any worker, after which a line says so


class WorkerDied(RuntimeError):
    """A worker ended before its task did; the message says how, in a few words."""


class Worker(Protocol):
    """A process somewhere that works on one task after the other."""

    def open(self) -> Future[None]:
        """Begin to load what the work needs."""

    def submit(self, task: Task, attempts: int) -> Future[TaskRecord]:
        """Hand over a task; see `TaskRunner`."""

    def reason(self, error: Exception) -> Exception:
        """What is behind an error of a future: `WorkerDied`, or what the work raised."""

    def close(self) -> None:
        """End the process, whatever it does."""


@dataclass
class _Attempt:
    """A task, how many workers have been given it, and whether its worker gets no other beside it.

    A task that a worker had when it ended may be the reason, and what it answered last may be lost: what is
    tried again is alone with its worker, so that no other task is ever blamed for it twice.
    """

    task: Task
    number: int = 1
    is_alone: bool = False


@dataclass
class _Slot:
    """A worker with what it has been given, the oldest first."""

    worker: Worker
    opening: Future[None]
    is_open: bool = False
    given: deque[tuple[_Attempt, Future[TaskRecord]]] = field(default_factory=deque)
    last_seconds: float = _SHORT

    @property
    def next(self) -> Future:
        """What happens next here: it is open, or its oldest task ends."""
        return self.given[0][1] if self.given else self.opening

    @property
    def has_room(self) -> bool:
        is_short = self.last_seconds < _SHORT and not any(attempt.is_alone for attempt, _ in self.given)
        return self.is_open and len(self.given) < (2 if is_short else 1)


class TaskStream:
    """Hands tasks to a number of workers; see `records`."""

    def __init__(self, start: Callable[[int], Worker], count: int, max_retries: int) -> None:
        """Prepare; nothing is started yet.

        Args:
            start: makes the worker of a place, 0 to ``count`` - 1.
            count: of workers.
            max_retries: see `scenegen.batch.engines.tasks.WorkerNeeds`.
        """
        self._start, self._max_retries = start, max_retries
        self._slots: dict[int, _Slot] = {}
        self._places = list(range(count))
        self._early: deque[_Attempt] = deque()  # given back by workers that died with another task
        self._late: deque[_Attempt] = deque()  # that their workers died with: when all others are done
        self._failed_openings: Counter[int] = Counter()

    def records(self, tasks: Iterable[Task]) -> Iterator[TaskRecord]:
        """Work on tasks; see `scenegen.batch.engines.tasks.Engine.run`.

        At most two tasks a worker are open at a time.
        """
        source = iter(tasks)
        try:
            while True:
                self._hand_out(source)
                if not (self._early or self._late or any(slot.given for slot in self._slots.values())):
                    return
                for place in self._wait():
                    yield from self._advance(place)
        finally:
            for slot in self._slots.values():
                slot.worker.close()

    def _hand_out(self, source: Iterator[Task]) -> None:
        """Give tasks to workers with room, and start workers for places that are free and needed."""
        for slot in self._slots.values():
            while slot.has_room and (attempt := self._next(source, is_free=not slot.given)) is not None:
                slot.given.append((attempt, slot.worker.submit(attempt.task, attempt.number)))
        while len(self._slots) < len(self._places) and self._more_wait_than(self._num_opening(), source):
            place = next(place for place in self._places if place not in self._slots)
            worker = self._start(place)
            self._slots[place] = _Slot(worker, worker.open())

    def _num_opening(self) -> int:
        return sum(not slot.is_open for slot in self._slots.values())

    def _more_wait_than(self, number: int, source: Iterator[Task]) -> bool:
        """Whether more tasks than so many wait; takes no more from the source than it needs to know."""
        while len(self._early) + len(self._late) <= number:
            if (fresh := self._from_source(source)) is None:
                return False
            self._early.append(fresh)
        return True

    def _next(self, source: Iterator[Task], is_free: bool) -> _Attempt | None:
        """What a worker gets next, which has something else unless it is free."""
        if self._early and (is_free or not self._early[0].is_alone):
            return self._early.popleft()
        if (fresh := self._from_source(source)) is not None:
            return fresh
        return self._late.popleft() if self._late and is_free else None

    @staticmethod
    def _from_source(source: Iterator[Task]) -> _Attempt | None:
        task = next(source, None)
        return None if task is None else _Attempt(task)

    def _wait(self) -> list[int]:
        """Places where something has happened."""
        pending = {slot.next: place for place, slot in self._slots.items() if slot.given or not slot.is_open}
        start = time.monotonic()
        while True:
            done, _ = wait(pending, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
            if done:
                return [pending[future] for future in done]
            if not any(slot.is_open for slot in self._slots.values()):
                logger.warning("no worker yet after %.0f s; waiting", time.monotonic() - start)

    def _advance(self, place: int) -> Iterator[TaskRecord]:
        """Take note of what has happened at a place.

        Raises:
            EngineError: workers of every place die again and again before they begin.
            Exception: what the work raised.
        """
        slot = self._slots[place]
        try:
            result = slot.next.result()
        except Exception as error:  # of another process: it either ended, or the work raised this
            reason = slot.worker.reason(error)
            if not isinstance(reason, WorkerDied):
                raise reason from error
            yield from self._bury(place, reason)
            return
        if slot.given:
            slot.given.popleft()
            slot.last_seconds = result.seconds
            yield result
        else:
            slot.is_open = True
            self._failed_openings[place] = 0

    def _bury(self, place: int, death: WorkerDied) -> Iterator[TaskRecord]:
        """Give back the tasks of a worker that died; the one that it worked on may have been the reason."""
        slot = self._slots.pop(place)
        slot.worker.close()
        if not slot.given:
            self._failed_openings[place] += 1
            if self._failed_openings[place] > self._max_retries:
                self._places.remove(place)
            if not self._places:
                raise EngineError(f"workers end before they begin: {death}; see what they load") from death
            return
        (blamed, _), *others = slot.given
        self._early.extend(replace(attempt, is_alone=True) for attempt, _ in others)
        if blamed.number <= self._max_retries:
            self._late.append(_Attempt(blamed.task, blamed.number + 1, is_alone=True))
            return
        error = f"{blamed.task.id}: {death}; counted as failed after {blamed.number} attempts"
        yield TaskRecord(blamed.task.id, "failed", attempts=blamed.number, error=error)
