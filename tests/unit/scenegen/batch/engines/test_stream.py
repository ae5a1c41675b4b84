"""How tasks get past workers that die, with workers that answer at once."""

import threading
from concurrent.futures import Future

import pytest

from scenegen.batch.engines.stream import TaskStream, WorkerDied
from scenegen.batch.engines.tasks import EngineError, Task, TaskRecord


class Answering:
    """A worker that answers at once, unless its place is broken or the task is deadly."""

    def __init__(self, place: int, broken: tuple[int, ...], started: list[int]) -> None:
        started.append(place)
        self._is_broken = place in broken
        self._is_dead = False

    def open(self) -> Future:
        return _answer(ConnectionError("ended") if self._is_broken else None)

    def submit(self, task: Task, attempts: int) -> Future:
        self._is_dead = self._is_dead or task.settings == "deadly"
        done = TaskRecord(task.id, "done", attempts=attempts, seconds=0.0)
        return _answer(ConnectionError("ended") if self._is_dead else done)

    def reason(self, error: Exception) -> Exception:
        return WorkerDied("it ended") if isinstance(error, ConnectionError) else error

    def close(self) -> None:
        """Nothing is held."""


def _answer(value: object) -> Future:
    future: Future = Future()
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)
    return future


def run(count: int, tasks: list[Task], broken: tuple[int, ...] = (), retries: int = 1):
    started: list[int] = []
    stream = TaskStream(lambda place: Answering(place, broken, started), count, retries)
    return list(stream.records(tasks)), started


def test_a_broken_place_is_given_up_and_the_others_go_on():
    records, started = run(3, [Task(str(number)) for number in range(50)], broken=(1,))
    assert sorted(int(record.id) for record in records) == list(range(50))
    assert started.count(1) == 2 and {0, 2} <= set(started)
    with pytest.raises(EngineError, match="workers end before they begin: it ended"):
        run(2, [Task("a"), Task("b"), Task("c")], broken=(0, 1))


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_only_the_task_that_ends_its_workers_fails_and_it_is_tried_again_at_the_end(retries):
    tasks = [Task(str(number), "deadly" if number == 7 else None) for number in range(30)]
    records, started = run(2, tasks, retries=retries)
    assert len(records) == 30 and len(started) <= 2 + retries + 1
    (failed,) = (record for record in records if record.status == "failed")
    assert (failed.id, failed.attempts) == ("7", retries + 1)
    assert failed.error == f"7: it ended; counted as failed after {retries + 1} attempts"
    if retries:
        assert (
            records.index(failed) >= 30 - 2 * 2
        )  # when all others are handed out: two workers hold two each
    assert all(record.attempts == 1 for record in records if record is not failed)


class Hasty(Answering):
    """A worker whose answers come late, and are lost where the next task ends it."""

    def __init__(self, place: int, broken: tuple[int, ...], started: list[int]) -> None:
        super().__init__(place, broken, started)
        self._open: list[tuple[Future, TaskRecord]] = []

    def submit(self, task: Task, attempts: int) -> Future:
        future: Future = Future()
        self._open.append((future, TaskRecord(task.id, "done", attempts=attempts, seconds=0.0)))
        if task.settings == "deadly":
            lost, self._open = self._open, []
            for each, _ in lost:
                each.set_exception(ConnectionError("ended"))
        else:
            threading.Timer(0.01, self._answer_one).start()
        return future

    def _answer_one(self) -> None:
        if self._open:
            future, record = self._open.pop(0)
            future.set_result(record)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_whose_answer_is_lost_is_not_blamed_for_the_next_one(workers):
    tasks = [Task(str(number), "deadly" if number % 10 == 7 else None) for number in range(30)]
    records = list(TaskStream(lambda place: Hasty(place, (), []), workers, 1).records(tasks))
    assert sorted(int(record.id) for record in records) == list(range(30))
    assert {record.id for record in records if record.status == "failed"} == {"7", "17", "27"}
    assert all(record.attempts <= 2 for record in records)
