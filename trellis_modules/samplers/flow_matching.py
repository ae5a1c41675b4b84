"""Flow matching on a straight path from data to noise: the algebra shared by samplers and trainers.

``x_t = (1 - t) * x_0 + (sigma_min + (1 - sigma_min) * t) * noise`` with t = 0 data and t = 1 noise, so that
the velocity ``dx_t/dt = (1 - sigma_min) * noise - x_0`` is what a model learns.

Source: Lipman et al., Flow Matching, arXiv:2210.02747; Liu et al., Rectified Flow, arXiv:2209.03003.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Time = float | Tensor
"""A time in [0, 1]: one number, or (B,) with one entry per batch row."""

MODEL_TIME_SCALE = 1000.0
"""Networks embed ``1000 * t``; `model_time` is the only place that applies the factor."""


def model_time(t: Time, batch_size: int, device: torch.device | str) -> Tensor:
    """The (B,) float32 vector a network receives for the time t, a number or (B,)."""
    if isinstance(t, Tensor):
        return (MODEL_TIME_SCALE * t).to(device=device, dtype=torch.float32).expand(batch_size)
    return torch.full((batch_size,), MODEL_TIME_SCALE * t, dtype=torch.float32, device=device)


class PreparedTime(NamedTuple):
    """A time of all batch elements, and what the layers of a network make of it before a run."""

    t: Tensor  # (1,), time times 1000
    vectors: Tensor  # (1, W), as the network's ``precompute_times`` lays them out


def _per_row(t: Time, like: Tensor) -> Time:
    """Shape (B,) times so that they broadcast over the other axes of ``like``."""
    return t.reshape(-1, *[1] * (like.ndim - 1)).to(like) if isinstance(t, Tensor) and t.ndim else t


@dataclass(frozen=True)
class FlowPath:
    """Conversions between data, noise, state and velocity; t is a number or (B,) in every method.

    Attributes:
        sigma_min: noise left at t = 0.
    """

    sigma_min: float = 1e-5

    def __post_init__(self) -> None:
        if not 0 <= self.sigma_min < 1:
            raise ValueError(f"FlowPath: sigma_min must be in [0, 1), got {self.sigma_min}")

    def noise_level(self, t: Time) -> Time:
        """The factor of the noise in x_t."""
        return self.sigma_min + (1 - self.sigma_min) * t

    def diffuse(self, x_0: Tensor, noise: Tensor, t: Time) -> Tensor:
        """The state x_t between data and noise, both (B, ...)."""
        t = _per_row(t, x_0)
        return (1 - t) * x_0 + self.noise_level(t) * noise

    def target_velocity(self, x_0: Tensor, noise: Tensor) -> Tensor:
        """The velocity along the path, which does not depend on t."""
        return (1 - self.sigma_min) * noise - x_0

    def x_0_from_velocity(self, x_t: Tensor, velocity: Tensor, t: Time) -> Tensor:
        """The data at the end of the path that passes x_t with this velocity."""
        t = _per_row(t, x_t)
        return (1 - self.sigma_min) * x_t - self.noise_level(t) * velocity


def logit_normal_times(normal_draws: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Map standard normal draws to times in (0, 1): ``sigmoid(mean + std * draw)``.

    Source: Esser et al., Scaling Rectified Flow Transformers, arXiv:2403.03206, sec. 3.1.
    """
    return torch.sigmoid(normal_draws * std + mean)


@dataclass(frozen=True)
class TimeSchedule:
    """How training times are drawn.

    Attributes:
        name: "uniform" or "logitNormal" (the spelling of the configuration files).
        mean, std: of the normal distribution before the sigmoid; unused by "uniform".
    """

    name: Literal["uniform", "logitNormal"] = "logitNormal"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in ("uniform", "logitNormal"):
            raise ValueError(f"TimeSchedule: name must be 'uniform' or 'logitNormal', got {self.name!r}")
        if self.std <= 0:
            raise ValueError(f"TimeSchedule: std must be positive, got {self.std}")

    def sample(
        self, count: int, *, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> Tensor:
        """Draw (count,) float32 times in [0, 1] on ``device``, which must be the generator's."""
        if self.name == "uniform":
            return torch.rand(count, generator=generator, device=device)
        return logit_normal_times(torch.randn(count, generator=generator, device=device), self.mean, self.std)
