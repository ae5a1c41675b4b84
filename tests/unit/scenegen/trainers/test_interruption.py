"""Signals and the limit of time: what is broken off, and what is finished first."""

import os
import signal
import threading
import time

import pytest

from scenegen.trainers.interruption import Interruption, StepBrokenOff

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


def busy(seconds: float) -> None:
    """Work in many small steps, as Python code that calls PyTorch."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_breaks_breakable_work_off(number):
    with Interruption() as interruption:
        with pytest.raises(StepBrokenOff), interruption.breakable():
            os.kill(os.getpid(), number)
            busy(5)
        assert interruption.reason == SIGNALS[number]


def test_signal_lets_other_work_finish_and_stops_the_next(tmp_path):
    done = []
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        done.append("state written")
        with pytest.raises(StepBrokenOff), interruption.breakable():
            done.append("never")
    assert done == ["state written"] and interruption.reason == "SIGTERM"


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_lets_a_step_finish_that_other_processes_wait_for(number):
    done = []
    with Interruption(may_break_off=False) as interruption:
        for _ in range(2):
            with interruption.breakable():
                if not done:
                    os.kill(os.getpid(), number)
                busy(0.01)
                done.append("step")
    assert done == ["step", "step"] and interruption.reason == SIGNALS[number]


def test_time_limit_holds_within_a_step():
    start = time.monotonic()
    with Interruption(0.2) as interruption:
        with pytest.raises(StepBrokenOff), interruption.breakable():
            busy(30)
    assert interruption.reason == "--time-limit" and time.monotonic() - start < 5


def test_second_ctrl_c_waits_for_nothing():
    with Interruption():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            busy(5)


def test_handlers_and_timer_are_as_before_afterwards():
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    with Interruption(100):
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in before} == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_other_threads_change_no_handler():
    seen = []

    def work():
        with Interruption(100) as interruption, interruption.breakable():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
