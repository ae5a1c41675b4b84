"""What all flow objectives share: states between data and noise, and errors of velocities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trellis_modules.config import NamedConfig, build
from trellis_modules.samplers.flow_matching import FlowPath, TimeSchedule

TIME_BINS = 10
"""Equal parts of the times from 0 to 1 for which errors are logged apart."""


def time_schedule(named: NamedConfig) -> TimeSchedule:
    """The schedule that a configuration asks for: ``{"name": "logitNormal", "args": {"mean": 1, "std": 1}}``.

    Raises:
        ConfigError: its name or an argument is unknown or out of range.
    """
    return build(TimeSchedule, {"name": named.name, **named.args}, "trainer.t_schedule")


@dataclass(frozen=True)
class FlowSettings:
    """How times are drawn, and the noise that is left in data.

    Attributes:
        t_schedule: ``logitNormal`` with ``mean`` and ``std``, or ``uniform``.
        sigma_min: see `FlowPath`.
    """

    t_schedule: NamedConfig = NamedConfig("logitNormal", {"mean": 0.0, "std": 1.0})
    sigma_min: float = 1e-5

    def __post_init__(self) -> None:
        time_schedule(self.t_schedule)
        FlowPath(self.sigma_min)  # refuses what is out of range


@dataclass(frozen=True)
class FlowStates:
    """States that a flow model is shown, one a row, and what it is to say of them.

    Attributes:
        x_t: (B, ...) states.
        t: (B,) their times in [0, 1].
        velocity: the shape of x_t, the velocities of their paths.
        path: on which they lie.
    """

    x_t: Tensor
    t: Tensor
    velocity: Tensor
    path: FlowPath

    def errors(self, predicted: Tensor) -> Tensor:
        """Mean squared errors (B,) of predicted velocities, in float32."""
        return (predicted.float() - self.velocity).square().flatten(1).mean(1)

    def x_0(self, predicted: Tensor) -> Tensor:
        """The data at the ends of the paths with predicted velocities, in float32."""
        return self.path.x_0_from_velocity(self.x_t, predicted.float(), self.t)


def draw_states(path: FlowPath, x_0: Tensor, t: Tensor, generator: torch.Generator) -> FlowStates:
    """States between data and noise that is drawn for them.

    Args:
        path: from data to noise.
        x_0: (B, ...) float32 data.
        t: (B,) times.
        generator: on the device of the data.
    """
    noise = torch.randn(x_0.shape, generator=generator, device=x_0.device)
    return FlowStates(path.diffuse(x_0, noise, t), t, path.target_velocity(x_0, noise), path)


def errors_by_time(errors: Tensor, t: Tensor) -> dict[str, Tensor]:
    """Mean error at the times of each tenth, named ``bin_0/mse`` to ``bin_9/mse``; NaN where there is none.

    Args:
        errors: (B,) one for each object.
        t: (B,) their times in [0, 1].
    """
    bins = (t * TIME_BINS).long().clamp(max=TIME_BINS - 1)
    member = (bins[:, None] == torch.arange(TIME_BINS, device=t.device)).to(errors)  # (B, bins)
    means = (errors.detach() @ member) / member.sum(0)  # 0 / 0 is the NaN of an empty part
    return {f"bin_{number}/mse": mean for number, mean in enumerate(means.unbind())}
