"""Batches made while the device still works on those before, and how long the device waits for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from scenegen.datasets.batch import Batch
from scenegen.datasets.source import BatchSource


class Prefetcher:
    """Makes batches on a CUDA stream of their own; on other devices when they are asked for.

    Sources wait for the GPU here and there (say for a number of triangles). On its own stream such a wait
    does not include the training step, which goes on meanwhile.
    """

    def __init__(self, source: BatchSource, device: torch.device, slots: int = 1, ahead: bool = True) -> None:
        """Take a source.

        Args:
            source: of batches on the device.
            device: of the batches.
            slots: batches of a step, see `BatchSource`.
            ahead: `prepare` makes batches; False: they are made when they are asked for everywhere.
        """
        self.source, self._slots = source, slots
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" and ahead else None
        self._prepared: tuple[int, int, Batch] | None = None

    def prepare(self, step: int, slot: int = 0) -> None:
        """Make a batch ahead of ``get``; does nothing without a GPU."""
        if self._stream is None:
            return
        with torch.cuda.stream(self._stream):
            self._prepared = step, slot, self.source.batch(step, slot, self._slots)

    def get(self, step: int, slot: int = 0) -> Batch:
        """The batch of a slot of a step, ready for the current stream."""
        if self._stream is None:
            return self.source.batch(step, slot, self._slots)
        if self._prepared is None or self._prepared[:2] != (step, slot):
            self.prepare(step, slot)
        batch = self._prepared[2]
        current = torch.cuda.current_stream()
        current.wait_stream(self._stream)
        batch.record_stream(current)
        return batch


class DataWait:
    """Measures how long the device has nothing to do because its next batch is not there.

    On a GPU, which works on what was queued for it, that is the time between the end of one pass and the
    beginning of the next, measured by the GPU itself; elsewhere it is the time that making a batch takes.
    """

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._is_gpu = device.type == "cuda"
        self._gaps: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._end: torch.cuda.Event | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The getting of a batch."""
        start = self._clock()
        yield
        if not self._is_gpu:
            self._seconds += self._clock() - start
        elif self._end is not None:
            self._gaps.append((self._end, self._event()))

    def pass_queued(self) -> None:
        """All work on a batch was queued."""
        if self._is_gpu:
            self._end = self._event()

    def _event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def take(self) -> float:
        """Seconds of waiting since this was last asked; waits for the device."""
        if self._gaps:
            self._gaps[-1][1].synchronize()
            self._seconds += sum(end.elapsed_time(start) for end, start in self._gaps) / 1000
        seconds, self._seconds, self._gaps = self._seconds, 0.0, []
        return seconds
