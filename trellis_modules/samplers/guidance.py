"""Classifier-free guidance as a wrapper around a model, so that samplers need not know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers.conditioning import Cond
from trellis_modules.samplers.flow_matching import PreparedTime, model_time


class FlowModel(Protocol):
    """A network: state (B, ...), times (B,) already scaled to [0, 1000], condition -> prediction.

    In place of the times it may be given what it made of one itself.
    """

    def __call__(self, x_t: Tensor, t: Tensor | PreparedTime, cond: Cond) -> FlowOutput: ...


class Predictor(Protocol):
    """A model as the Euler loop sees it: the time is one number in [0, 1]."""

    def __call__(self, x_t: Tensor, t: float, cond: Cond) -> FlowOutput: ...


@dataclass(frozen=True)
class ConditionalPredictor:
    """Adapts a network to the loop: scales the time and repeats a condition of one row over the batch.

    Attributes:
        model: the network.
        times: what it has made of times already.
    """

    model: FlowModel
    times: Mapping[float, PreparedTime] = field(default_factory=dict)

    def __call__(self, x_t: Tensor, t: float, cond: Cond) -> FlowOutput:
        """One forward pass.

        Raises:
            ValueError: a tensor condition has neither one row nor one per row of x_t.
        """
        batch_size = x_t.shape[0]
        if isinstance(cond, Tensor) and cond.shape[0] != batch_size:
            if cond.shape[0] != 1:
                raise ValueError(
                    f"sampling: cond must have 1 or {batch_size} rows like x_t, "
                    f"got shape {tuple(cond.shape)}; wrap several views in MultiViewCond"
                )
            cond = cond.expand(batch_size, *cond.shape[1:])
        told = self.times[t] if t in self.times else model_time(t, batch_size, x_t.device)
        return self.model(x_t, told, cond)


@dataclass(frozen=True)
class GuidedPredictor:
    """Pushes the velocity away from the unconditional one while t is inside an interval.

    The extras are those of the conditional pass: a pose has no meaningful extrapolation.

    Attributes:
        predictor: evaluated with the condition first, then with ``neg_cond``.
        neg_cond: the empty condition.
        strength: w in ``(1 + w) * v(cond) - w * v(neg_cond)``.
        interval: guidance acts for t in [low, high], both ends included.

    Source: Ho and Salimans, arXiv:2207.12598; interval: Kynkaanniemi et al., arXiv:2404.07724.
    """

    predictor: Predictor
    neg_cond: Cond
    strength: float
    interval: tuple[float, float] = (0.0, 1.0)

    def acts(self, t: float) -> bool:
        """Whether a time is inside the interval."""
        low, high = self.interval
        return low <= t <= high

    def __call__(self, x_t: Tensor, t: float, cond: Cond) -> FlowOutput:
        """One forward pass outside the interval, two inside."""
        guided = self.predictor(x_t, t, cond)
        if not self.acts(t):
            return guided
        unguided = self.predictor(x_t, t, self.neg_cond)
        velocity = (1 + self.strength) * guided.velocity - self.strength * unguided.velocity
        return FlowOutput(velocity, guided.extras)
