"""Running averages of the trained weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Averages:
    """Exponential averages of tensors, one for each rate: ``average = rate * average + (1 - rate) * value``.

    Attributes:
        rates: of the averages.
        tensors: for each rate, float32 tensors in the order of the averaged ones.
    """

    def __init__(self, values: Sequence[Tensor], rates: Sequence[float], warm_up: bool = False) -> None:
        """Start from the values as they are.

        Args:
            values: what is averaged, the masters of `scenegen.trainers.precision`.
            rates: each from 0 to 1.
            warm_up: early averages follow the values closely: the rate of step n is at most
                (1 + n) / (10 + n).
        """
        self._values, self._warm_up = list(values), warm_up
        self.rates = tuple(rates)
        self.tensors = [self._copies() for _ in self.rates]

    def _copies(self) -> list[Tensor]:
        return [value.detach().to(torch.float32, copy=True) for value in self._values]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the values after a step.

        Args:
            step: 0-based, for the warm-up.
        """
        values = [value.float() for value in self._values]
        for rate, average in zip(self.rates, self.tensors, strict=True):
            rate = min(rate, (1 + step) / (10 + step)) if self._warm_up else rate
            torch._foreach_lerp_(average, values, 1 - rate)

    @torch.no_grad()
    def swap(self, index: int = 0) -> None:
        """Exchange the values for an average, tensor by tensor; a second call undoes it exactly.

        Args:
            index: of the average's rate.
        """
        for value, average in zip(self._values, self.tensors[index], strict=True):
            before = value.detach().clone()
            value.copy_(average)
            average.copy_(before)
