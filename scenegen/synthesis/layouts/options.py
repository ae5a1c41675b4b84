"""Ranges that scenes are drawn from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ComposerOptions:
    """Ranges the composer draws from."""

    elevation_deg: tuple[float, float] = (5.0, 50.0)
    fov_deg: tuple[float, float] = (30.0, 70.0)
    fill: tuple[float, float] = (0.78, 0.97)  # part of the half image that the boxes may reach
    min_visible_fraction: float = 0.4  # of sample points in the object's box
    min_extent: float = 0.07  # longest side of the projected box over the image side
    free_yaw_probability: float = 0.25
    scale_jitter: float = 0.0  # sizes are multiplied by up to 1 + this, or divided by it
    stretch_jitter: float = 0.0  # the same for each axis
    mirror_probability: float = 0.0
    max_attempts: int = 60


TEST_OPTIONS = ComposerOptions()
"""Those of the test scenes."""
