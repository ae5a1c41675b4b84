"""Conditions of a sampling run: one for all steps, or several views that take turns."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trellis_modules.flow_output import FlowOutput

logger = logging.getLogger(__name__)

Cond = Any
"""What a model is conditioned on: a tensor (B, L, C), or whatever the model precomputed from one."""

ExtrasMean = Callable[[str, Tensor], Tensor]
"""Reduces the stacked estimates (V, B, ...) of the extra with the given name to (B, ...)."""


@dataclass(frozen=True)
class MultiViewCond:
    """Conditions from several photos of the same assets, one entry per view."""

    views: tuple[Cond, ...]

    def __post_init__(self) -> None:
        if not self.views:
            raise ValueError("MultiViewCond: expected at least one view, got none")


def condition_schedule(cond: Cond | MultiViewCond, steps: int) -> list[tuple[Cond, ...]]:
    """Choose the conditions of every step; the predictions for the conditions of one step are averaged.

    With V views, step i takes view ``i mod V`` alone, and the last step takes all of them.

    Source: "stochastic" multi-image conditioning of TRELLIS, arXiv:2412.01506.
    """
    if not isinstance(cond, MultiViewCond):
        return [(cond,)] * steps
    count = len(cond.views)
    if count > steps:
        logger.warning("%d views but only %d steps: some views are used in the last step only", count, steps)
    return [(cond.views[step % count],) for step in range(steps - 1)] + [cond.views]


def arithmetic_mean(name: str, estimates: Tensor) -> Tensor:
    """The plain mean over the first axis, whatever the extra is called."""
    return estimates.mean(dim=0)


def average_outputs(outputs: Sequence[FlowOutput], extras_mean: ExtrasMean = arithmetic_mean) -> FlowOutput:
    """Mean of several predictions for the same state; a single one is returned unchanged.

    Args:
        outputs: at least one, all with the same extras.
        extras_mean: how an extra is averaged, for those whose plain mean is meaningless (rotations).
    """
    if len(outputs) == 1:
        return outputs[0]
    velocity = outputs[0].velocity
    for output in outputs[1:]:
        velocity = velocity + output.velocity  # not torch.stack: sparse tensors have none
    extras = {
        name: extras_mean(name, torch.stack([output.extras[name] for output in outputs]))
        for name in outputs[0].extras
    }
    return FlowOutput(velocity / len(outputs), extras)
