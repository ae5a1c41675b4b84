"""Sun and sky of a scene."""

from __future__ import annotations

import math

import numpy as np

from scenegen.synthesis.layouts.scene_layout import Camera, Lighting


def draw_lighting(rng: np.random.Generator, camera: Camera) -> Lighting:
    """Draw a sun that is rarely behind the scene."""
    behind_camera = math.atan2(camera.position[0] - camera.target[0], camera.position[2] - camera.target[2])
    azimuth = behind_camera + rng.normal(0.0, math.radians(50))
    elevation = math.radians(rng.uniform(30, 75))
    direction = (
        math.sin(azimuth) * math.cos(elevation),
        math.sin(elevation),
        math.cos(azimuth) * math.cos(elevation),
    )
    return Lighting(
        sun_direction=direction,
        sun_strength=float(rng.uniform(0.25, 0.6)),
        ambient_strength=float(rng.uniform(0.5, 0.75)),
    )
