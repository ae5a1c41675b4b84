"""How light falls on a composed scene: the model of the ray caster and of the rasteriser.

A surface of unit normal n, turned to the eye, shows (all in sRGB values)
``albedo * (ambient * (0.75 + 0.25 * n_y) + sun * max(0, n . sun_direction) * lit)``: a grey sky that is
brighter above, and a white sun that casts shadows. The floor is the plane y = 0 and walls are planes too,
both without end and seen from their front only; beyond them lies the colour of the walls in ambient light.

The functions take arrays of NumPy as well as tensors, so that both renderers compute with the same formulas.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

Values = TypeVar("Values", np.ndarray, torch.Tensor)

FLOOR_POINT = (0.0, 0.0, 0.0)
FLOOR_NORMAL = (0.0, 1.0, 0.0)
SHADOW_OFFSET_M = 1e-3
"""Places on a surface are this far off it, along its normal, when they are asked whether they see the sun."""

_LEVEL_SKY, _SKY_SLOPE = 0.75, 0.25
_LEAST_SLOPE = 1e-6  # rays that are nearer to parallel do not meet a plane


def received_light(normals: Values, ambient: Values | float, sunlight: Values) -> Values:
    """Light (...) that falls on surfaces.

    Args:
        normals: (..., 3) unit, in the world (y up).
        ambient: strength of the sky, broadcast to (...).
        sunlight: (...) strength of the sun times the cosine of its angle, 0 in shadow.
    """
    return ambient * (_LEVEL_SKY + _SKY_SLOPE * normals[..., 1]) + sunlight


def facing_eye(normals: Values, rays: Values) -> Values:
    """Normals (..., 3) of two-sided surfaces, turned to the eye that sees them along rays (..., 3)."""
    away = (normals * rays).sum(-1)[..., None] > 0
    return _where(away, -normals, normals)


def plane_depth(height: Values | float, along: Values) -> Values:
    """Depth (...) at which rays meet a plane from its front, +inf where they do not.

    Args:
        height: of the plane above the eye along the plane's normal, broadcast to (...).
        along: (...) part of the rays, which have camera depth 1, along the normal.
    """
    towards = along < -_LEAST_SLOPE
    depth = height / _where(towards, along, -1.0)
    return _where(towards & (depth > 0), depth, np.inf)


def _where(condition: Values, values: Values, others: Values | float) -> Values:
    library = torch if isinstance(condition, torch.Tensor) else np
    return library.where(condition, values, others)
