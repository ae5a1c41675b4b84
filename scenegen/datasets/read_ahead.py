"""Items of a data set that worker processes make ahead of the training loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")

_FAR = 1 << 20  # items that are planned ahead: more than a run takes before it stops or asks for others


class ReadAhead(Generic[T]):
    """The items of a data set by number, in any order; those of numbers in equal strides come ahead.

    A process that shares its steps with others asks for every second number, say. The stride is learnt from
    the numbers that are asked for: any other number than the expected one starts the workers anew.
    """

    def __init__(
        self,
        items: Dataset[T],
        workers: int,
        *,
        ahead: int = 8,
        end: int | None = None,
        pinned: bool = False,
    ) -> None:
        """Make ready; workers start with the first item.

        Args:
            items: by number, each a function of its number alone; sent to the workers.
            workers: processes; 0 makes every item when it is asked for.
            ahead: items that each worker has ready or in work.
            end: no item of this number or above is made.
            pinned: tensors come in pinned memory, from which a GPU copies without waiting.
        """
        self.items, self.workers, self.ahead, self.end, self.pinned = items, workers, ahead, end, pinned
        self._made: Iterator[T] | None = None
        self._last: int | None = None
        self._expected, self._stride = -1, 1

    def get(self, number: int) -> T:
        """The item of a number: 0 or more, and below ``end``."""
        if not self.workers:
            return self.items[number]
        if self._made is None or number != self._expected:
            self._start(number)
        self._last, self._expected = number, number + self._stride
        return next(self._made)

    def _start(self, number: int) -> None:
        if self._last is not None and number > self._last:
            self._stride = number - self._last
        planned = number + _FAR * self._stride
        loader = DataLoader(
            self.items,
            batch_size=None,
            sampler=range(number, planned if self.end is None else min(planned, self.end), self._stride),
            num_workers=self.workers,
            prefetch_factor=self.ahead,
            pin_memory=self.pinned,
            worker_init_fn=_one_thread,
        )
        self._made = iter(loader)


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
