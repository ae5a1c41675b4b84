"""What a batch source is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from scenegen.synthesis.sources.batch import Batch

B_co = TypeVar("B_co", bound=Batch, covariant=True)
T = TypeVar("T")


class BatchSource(Protocol[B_co]):
    """Batches as a function of the step: a resumed run sees what an uninterrupted one would have seen."""

    def batch(self, step: int) -> B_co:
        """The batch of ``step``, 0 or more, on the device of the source."""
        ...


class Latest(Generic[T]):
    """What was made last and the number (a step, or a run of steps) that it was made for."""

    def __init__(self) -> None:
        self._made: tuple[int, T] | None = None

    def get(self, number: int, make: Callable[[], T]) -> T:
        """What belongs to ``number``: kept where the call before asked for the same, or made now."""
        if self._made is None or self._made[0] != number:
            self._made = number, make()
        return self._made[1]
