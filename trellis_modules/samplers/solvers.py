"""Solvers of the flow's differential equation: how a sampler moves a state from one time to the next.

States may be sparse tensors; only sums of them and products with numbers are used.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, get_args

from torch import Tensor

from trellis_modules.flow_output import FlowOutput

SolverName = Literal["euler", "midpoint", "heun", "multistep"]
"""A key of `SOLVERS`."""

Predict = Callable[[Tensor, float], FlowOutput]
"""(state, time t in [0, 1]) -> prediction, guided and averaged over the views of the step."""

Constrain = Callable[[Tensor, float], Tensor]
"""(state, its time t in [0, 1]) -> the state to go on from."""

IsGuided = Callable[[float], bool]
"""Whether guidance acts at a time t in [0, 1]."""


class EulerSolver:
    """Follows the velocity at the start of a step. First order, one pass a step."""

    def __init__(self, constrain: Constrain | None = None, is_guided: IsGuided = lambda t: False) -> None:
        """Begin a run.

        Args:
            constrain: replaces the states inside of steps.
            is_guided: whether predictions for a time in [0, 1] are guided.
        """
        self._constrain = constrain
        self._is_guided = is_guided

    @staticmethod
    def looks(times: list[float]) -> list[float]:
        """The times at which a run with steps between ``times``, which fall, asks for predictions."""
        return times[:-1]

    def step(self, predict: Predict, x_t: Tensor, t: float, t_prev: float) -> tuple[Tensor, FlowOutput]:
        """Move the state from t to t_prev < t.

        Returns:
            The state, and the mean velocity of the step with the extras of its last pass.
        """
        output = predict(x_t, t)
        return self._move(x_t, output, t, t_prev), output

    @staticmethod
    def _move(x_t: Tensor, output: FlowOutput, t: float, t_prev: float) -> Tensor:
        return x_t - (t - t_prev) * output.velocity

    def _inside(self, x_t: Tensor, output: FlowOutput, t: float, inner: float) -> Tensor:
        """The state at a time inside of a step."""
        moved = self._move(x_t, output, t, inner)
        return moved if self._constrain is None else self._constrain(moved, inner)


class MidpointSolver(EulerSolver):
    """Follows the velocity in the middle of a step. Second order, two passes a step."""

    @staticmethod
    def looks(times: list[float]) -> list[float]:
        """See `EulerSolver`."""
        return [look for t, t_prev in pairwise(times) for look in (t, _middle(t, t_prev))]

    def step(self, predict: Predict, x_t: Tensor, t: float, t_prev: float) -> tuple[Tensor, FlowOutput]:
        """See `EulerSolver`."""
        inner = _middle(t, t_prev)
        output = predict(self._inside(x_t, predict(x_t, t), t, inner), inner)
        return self._move(x_t, output, t, t_prev), output


class HeunSolver(EulerSolver):
    """Follows the mean of the velocities at both ends of a step. Second order, two passes a step.

    The last step is Euler's: networks are not trained at its end, where no noise is left.

    Source: Karras et al., arXiv:2206.00364, algorithm 1.
    """

    @staticmethod
    def looks(times: list[float]) -> list[float]:
        """See `EulerSolver`."""
        return [look for pair in pairwise(times) for look in pair if look]

    def step(self, predict: Predict, x_t: Tensor, t: float, t_prev: float) -> tuple[Tensor, FlowOutput]:
        """See `EulerSolver`."""
        first = predict(x_t, t)
        if t_prev == 0:
            return self._move(x_t, first, t, t_prev), first
        second = predict(self._inside(x_t, first, t, t_prev), t_prev)
        output = FlowOutput(0.5 * (first.velocity + second.velocity), second.extras)
        return self._move(x_t, output, t, t_prev), output


class MultistepSolver(EulerSolver):
    """Extrapolates the velocity from those of two steps. Second order, one pass a step.

    The first step is Euler's, and so is the first with guidance or without, where the velocity jumps.
    DPM-Solver++ (arXiv:2211.01095), which extrapolates data estimates over the logarithm of the ratio of
    signal and noise, is farther off with as many steps of a flow whose solution is known.

    Source: Adams-Bashforth method of second order, for steps of different lengths.
    """

    _before: tuple[Tensor, float] | None = None  # velocity of the step before, and its time

    def step(self, predict: Predict, x_t: Tensor, t: float, t_prev: float) -> tuple[Tensor, FlowOutput]:
        """See `EulerSolver`."""
        output = predict(x_t, t)
        before, self._before = self._before, (output.velocity, t)
        if before is not None and self._is_guided(t) == self._is_guided(before[1]):
            share = (t - t_prev) / (2 * (before[1] - t))
            output = FlowOutput((1 + share) * output.velocity - share * before[0], output.extras)
        return self._move(x_t, output, t, t_prev), output


SOLVERS: dict[SolverName, type[EulerSolver]] = dict(
    zip(get_args(SolverName), (EulerSolver, MidpointSolver, HeunSolver, MultistepSolver), strict=True)
)
"""By name."""


def _middle(t: float, t_prev: float) -> float:
    return (t + t_prev) / 2
