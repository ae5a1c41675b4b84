"""The one loop that samples every flow model, step by step from noise to data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safe_files.limits import MAX_STEPS
from trellis_modules.flow_output import FlowOutput
from trellis_modules.samplers.conditioning import (
    Cond,
    ExtrasMean,
    MultiViewCond,
    arithmetic_mean,
    average_outputs,
    condition_schedule,
)
from trellis_modules.samplers.flow_matching import FlowPath, PreparedTime, model_time
from trellis_modules.samplers.guidance import ConditionalPredictor, FlowModel, GuidedPredictor, Predictor
from trellis_modules.samplers.solvers import SOLVERS, Constrain, SolverName

PrepareTimes = Callable[[Tensor], Sequence[PreparedTime]]
"""A model's ``precompute_times``: times (S,) times 1000 -> what it accepts in place of each."""


class Guidance(Enum):
    """Which guidance parameters a sampler follows; the others have no effect on it."""

    OFF = "off"
    ALWAYS = "always"
    INTERVAL = "interval"


@dataclass(frozen=True)
class SamplingParams:
    """Settings of one sampling run.

    Attributes:
        steps: of the solver.
        rescale_t: above 1, more of the steps fall near the noise end; 1 spaces the times evenly.
        cfg_strength: guidance strength w; 0 turns guidance off and saves its forward passes.
        cfg_interval: times t at which guidance acts, both ends included.
        solver: what makes a step; all but "euler" and "multistep" take two passes for one.
    """

    steps: int = 50
    rescale_t: float = 1.0
    cfg_strength: float = 3.0
    cfg_interval: tuple[float, float] = (0.0, 1.0)
    solver: SolverName = "euler"

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(f"SamplingParams: solver must be one of {list(SOLVERS)}, got {self.solver!r}")
        if self.steps < 1:
            raise ValueError(f"SamplingParams: steps must be at least 1, got {self.steps}")
        if self.steps > MAX_STEPS:
            raise ValueError(f"SamplingParams: steps must be at most {MAX_STEPS}, got {self.steps}")
        if not math.isfinite(self.rescale_t) or not math.isfinite(self.cfg_strength):
            raise ValueError(
                f"SamplingParams: rescale_t and cfg_strength must be finite, got {self.rescale_t}, "
                f"{self.cfg_strength}"
            )
        if self.rescale_t <= 0:
            raise ValueError(f"SamplingParams: rescale_t must be positive, got {self.rescale_t}")
        if len(self.cfg_interval) != 2 or not 0 <= self.cfg_interval[0] <= self.cfg_interval[1] <= 1:
            raise ValueError(
                f"SamplingParams: cfg_interval must be (low, high) with 0 <= low <= high <= 1, "
                f"got {self.cfg_interval}"
            )


@dataclass(frozen=True)
class SamplingResult:
    """What a sampling run produces.

    Attributes:
        samples: the final state, same shape as the noise.
        extras: by name, the estimates of every step in order; see `last`.
        pred_x_t: states after each step, empty unless the trajectory was recorded.
        pred_x_0: data estimates of each step, empty unless the trajectory was recorded.
    """

    samples: Tensor
    extras: dict[str, list[Tensor]] = field(default_factory=dict)
    pred_x_t: list[Tensor] = field(default_factory=list)
    pred_x_0: list[Tensor] = field(default_factory=list)

    def last(self, name: str) -> Tensor:
        """The estimate of an extra in the last step.

        Raises:
            KeyError: the model returned no extra of that name.
        """
        return self.extras[name][-1]


def sampling_times(steps: int, rescale_t: float = 1.0) -> list[float]:
    """The ``steps + 1`` times from 1 (noise) down to 0 (data), after ``t -> r * t / (1 + (r - 1) * t)``.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"sampling_times: steps must be at least 1, got {steps}")
    # NumPy's rounding, not that of ``1 - step / steps``: the last bit decides whether a time that falls on an
    # end of the guidance interval is inside.
    even = np.linspace(1, 0, steps + 1)
    return (rescale_t * even / (1 + (rescale_t - 1) * even)).tolist()


class FlowEulerSampler:
    """Integrates ``dx_t/dt = v(x_t, t)`` from noise to data, with Euler steps unless told otherwise.

    Works for dense tensors and for sparse ones that know ``shape``, ``device`` and arithmetic with numbers.
    """

    def __init__(self, sigma_min: float = 1e-5, guidance: Guidance = Guidance.INTERVAL) -> None:
        self.path = FlowPath(sigma_min)
        self.guidance = guidance

    def uses_guidance(self, params: SamplingParams) -> bool:
        """Whether a run with these settings needs ``neg_cond``."""
        return self.guidance is not Guidance.OFF and params.cfg_strength != 0

    @torch.no_grad()
    def sample(
        self,
        model: FlowModel,
        noise: Tensor,
        cond: Cond | MultiViewCond,
        neg_cond: Cond | None = None,
        params: SamplingParams = SamplingParams(),
        *,
        extras_mean: ExtrasMean = arithmetic_mean,
        record_trajectory: bool = False,
        on_step: Callable[[int, int], Any] | None = None,
        constrain: Constrain | None = None,
        prepare_times: PrepareTimes | None = None,
    ) -> SamplingResult:
        """Sample from noise.

        Args:
            model: returns a `FlowOutput` for (x_t, times (B,) in [0, 1000], cond).
            noise: (B, ...) state at t = 1; left unchanged.
            cond: a tensor (B or 1, L, C), a precomputed context of the model, or several views of either.
            neg_cond: the empty condition of the same kind; needed when guidance is on.
            params: steps, times and guidance.
            extras_mean: how the extras of several views are averaged in the last step.
            record_trajectory: keep the states and data estimates of every step.
            on_step: called with (steps done, steps) after every step, for progress bars.
            constrain: replaces every state, the noise and the last one included; for parts that are known.
            prepare_times: what the model makes of all times is made before the first step.

        Raises:
            ValueError: guidance is on without neg_cond, or the rows of cond do not fit.
        """
        times = sampling_times(params.steps, params.rescale_t)
        solver_kind = SOLVERS[params.solver]
        prepared = _prepared(sorted(set(solver_kind.looks(times))), prepare_times, noise.device)
        predictor = self._predictor(model, neg_cond, params, prepared)
        is_guided = predictor.acts if isinstance(predictor, GuidedPredictor) else lambda t: False
        solver = solver_kind(constrain, is_guided)
        schedule = condition_schedule(cond, params.steps)
        x_t = noise if constrain is None else constrain(noise, times[0])
        extras: dict[str, list[Tensor]] = {}
        pred_x_t: list[Tensor] = []
        pred_x_0: list[Tensor] = []
        for index, ((t, t_prev), conds) in enumerate(zip(pairwise(times), schedule, strict=True)):
            predict = partial(_mean_prediction, predictor, conds, extras_mean)
            x_prev, output = solver.step(predict, x_t, t, t_prev)
            if constrain is not None:
                x_prev = constrain(x_prev, t_prev)
            for name, value in output.extras.items():
                extras.setdefault(name, []).append(value)
            if record_trajectory:
                pred_x_t.append(x_prev)
                pred_x_0.append(self.path.x_0_from_velocity(x_t, output.velocity, t))
            x_t = x_prev
            if on_step is not None:
                on_step(index + 1, params.steps)
        return SamplingResult(x_t, extras, pred_x_t, pred_x_0)

    def _predictor(
        self,
        model: FlowModel,
        neg_cond: Cond | None,
        params: SamplingParams,
        prepared: Mapping[float, PreparedTime],
    ) -> Predictor:
        predictor = ConditionalPredictor(model, prepared)
        if not self.uses_guidance(params):
            return predictor
        if neg_cond is None:
            raise ValueError(
                f"FlowEulerSampler: guidance with cfg_strength {params.cfg_strength} needs neg_cond, "
                "got None; pass the empty condition or set cfg_strength to 0"
            )
        interval = params.cfg_interval if self.guidance is Guidance.INTERVAL else (0.0, 1.0)
        return GuidedPredictor(predictor, neg_cond, params.cfg_strength, interval)


def _mean_prediction(
    predictor: Predictor, conds: tuple[Cond, ...], extras_mean: ExtrasMean, x_t: Tensor, t: float
) -> FlowOutput:
    """The mean prediction for the conditions of a step."""
    return average_outputs([predictor(x_t, t, cond) for cond in conds], extras_mean)


def _prepared(
    times: Sequence[float], prepare: PrepareTimes | None, device: torch.device
) -> dict[float, PreparedTime]:
    """What a model makes of times in [0, 1], by time; empty without ``prepare``."""
    if prepare is None:
        return {}
    return dict(zip(times, prepare(torch.cat([model_time(t, 1, device) for t in times])), strict=True))
