"""What a flow model returns: shared by the networks, which produce it, and the samplers, which consume it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class FlowOutput:
    """One prediction of a flow model.

    Attributes:
        velocity: same shape as the state ``x_t`` the model received.
        extras: whatever else the model estimates, by name, batch first; for example "positions", (B, 8).
        features: tokens between two blocks of the model, where its caller asked for them.
    """

    velocity: Tensor
    extras: dict[str, Tensor] = field(default_factory=dict)
    features: Any = None
