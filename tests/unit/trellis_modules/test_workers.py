"""Functions in processes of their own: results, errors, warnings, and the ends of processes."""

import logging
import operator
import os
import signal
import time

import pytest

from trellis_modules.workers import WorkerLost, Workers


@pytest.fixture(scope="module")
def workers():
    workers = Workers(2, ["operator"])
    yield workers
    workers.close()


def test_results_come_from_another_process(workers):
    futures = [workers.submit(os.getpid) for _ in range(4)]
    processes = {future.result() for future in futures}
    assert os.getpid() not in processes and len(processes) <= 2


def test_an_error_is_that_of_the_function_and_the_process_goes_on(workers):
    with pytest.raises(ZeroDivisionError):
        workers.submit(operator.truediv, 1, 0).result()
    assert [workers.submit(operator.add, 1, 1).result() for _ in range(3)] == [2, 2, 2]


def test_what_a_function_prints_is_no_answer(workers):
    assert workers.submit(print, "loud").result() is None
    assert workers.submit(operator.neg, 3).result() == -3


def test_warnings_are_logged_here(workers, caplog):
    with caplog.at_level(logging.WARNING):
        workers.submit(logging.warning, "a mesh without faces").result()
    assert "a mesh without faces" in caplog.text


def test_a_process_that_ends_is_lost_and_the_call_says_so():
    workers = Workers(1)
    with pytest.raises(WorkerLost, match="status"):
        workers.submit(os._exit, 3).result()
    with pytest.raises(WorkerLost):
        workers.submit(os.getpid).result()
    workers.close()


def test_processes_end_when_they_are_closed_and_ignore_an_interrupt():
    workers = Workers(1)
    process = workers.submit(os.getpid).result()
    os.kill(process, signal.SIGINT)
    assert workers.submit(os.getpid).result() == process
    workers.close()
    deadline = time.monotonic() + 5
    while os.path.exists(f"/proc/{process}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{process}")
    with pytest.raises(RuntimeError):
        workers.submit(os.getpid)
