"""Batches made on the GPU while it still works on the step before."""

from __future__ import annotations

import torch

from scenegen.datasets.batch import Batch
from scenegen.datasets.source import BatchSource


class Prefetcher:
    """Makes batches on a CUDA stream of their own; on other devices when they are asked for.

    Sources wait for the GPU here and there (say for a number of triangles). On its own stream such a wait
    does not include the training step, which goes on meanwhile.
    """

    def __init__(self, source: BatchSource, device: torch.device) -> None:
        self.source = source
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._prepared: tuple[int, Batch] | None = None

    def prepare(self, step: int) -> None:
        """Make the batch of a step ahead of ``get``; does nothing without a GPU."""
        if self._stream is None:
            return
        with torch.cuda.stream(self._stream):
            self._prepared = step, self.source.batch(step)

    def get(self, step: int) -> Batch:
        """The batch of a step, ready for the current stream."""
        if self._stream is None:
            return self.source.batch(step)
        if self._prepared is None or self._prepared[0] != step:
            self.prepare(step)
        batch = self._prepared[1]
        current = torch.cuda.current_stream()
        current.wait_stream(self._stream)
        batch.record_stream(current)
        return batch
