"""Stopping a run from outside: Ctrl-C, a scheduler's SIGTERM, and a time limit that holds within a step."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

_REASONS = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    getattr(signal, "SIGALRM", None): "--time-limit",
}


class StepBrokenOff(Exception):
    """A step was broken off; nothing of it counts."""


class Interruption:
    """Turns signals into the wish to stop, for the length of a ``with`` block.

    Python handles signals between its own instructions: a step is broken off where it calls the next
    operation of PyTorch. In threads other than the main one, where no signal arrives, nothing is changed.

    Attributes:
        reason: who wished to stop, in words; None while nobody did.
    """

    def __init__(self, time_limit_s: float = math.inf, may_break_off: bool = True) -> None:
        """Make ready.

        Args:
            time_limit_s: seconds from the beginning of the block.
            may_break_off: False: breakable work is finished, because other processes wait for its results.
        """
        self.reason: str | None = None
        self._time_limit_s = time_limit_s
        self._is_breakable, self._may_break_off = False, may_break_off
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is not threading.main_thread():
            return self
        self._before = {number: signal.signal(number, self._handle) for number in _REASONS if number}
        if hasattr(signal, "setitimer") and 0 < self._time_limit_s < math.inf:
            signal.setitimer(signal.ITIMER_REAL, self._time_limit_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def breakable(self) -> Iterator[None]:
        """Work that may be broken off and done again later.

        Raises:
            StepBrokenOff: a signal came, now or before.
        """
        self._is_breakable = self._may_break_off
        try:
            if self.reason is not None and self._may_break_off:
                raise StepBrokenOff(self.reason)
            yield
        finally:
            self._is_breakable = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.reason is not None and number == signal.SIGINT:  # asked twice: do not wait for anything
            raise KeyboardInterrupt
        self.reason = self.reason or _REASONS[signal.Signals(number)]
        if self._is_breakable:
            self._is_breakable = False
            raise StepBrokenOff(self.reason)
