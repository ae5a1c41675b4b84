"""Which parts a condition has; light, so that a checkpoint's description can say it without the networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CondParts:
    """Which parts follow the asset tokens."""

    mask: bool = True
    scene: bool = True
    geometry: bool = True


ALL_PARTS = CondParts()
"""What released weights expect."""
