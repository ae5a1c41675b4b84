"""A value that is kept until another one is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """What was made last and the number (of a batch, or of a run of them) that it was made for."""

    def __init__(self) -> None:
        self._made: tuple[int, T] | None = None

    def get(self, number: int, make: Callable[[], T]) -> T:
        """What belongs to ``number``: kept where the call before asked for the same, or made now."""
        if self._made is None or self._made[0] != number:
            self._made = number, make()
        return self._made[1]
