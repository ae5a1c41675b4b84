"""Real spherical harmonics up to degree 3, in the order and signs that Gaussian splatting uses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_DEGREE = 3
_C0 = 0.5 / math.sqrt(math.pi)
_C1 = math.sqrt(3 / (4 * math.pi))
_C2_SIDE = 0.5 * math.sqrt(15 / math.pi)
_C2_POLE = 0.25 * math.sqrt(5 / math.pi)
_C3_OUTER = 0.25 * math.sqrt(35 / (2 * math.pi))
_C3_PRODUCT = 0.5 * math.sqrt(105 / math.pi)
_C3_INNER = 0.25 * math.sqrt(21 / (2 * math.pi))
_C3_POLE = 0.25 * math.sqrt(7 / math.pi)


def spherical_harmonics_basis(degree: int, directions: Tensor) -> Tensor:
    """Values of the real spherical harmonics of degrees 0 to ``degree``.

    Args:
        degree: 0 to 3.
        directions: (..., 3) unit vectors.

    Returns:
        (..., (degree + 1)^2), by degree and then by order from -degree to degree.

    Raises:
        ValueError: degree is not in [0, 3].
    """
    if not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"spherical_harmonics_basis: degree must be in [0, {MAX_DEGREE}], got {degree}")
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [torch.full_like(x, _C0)]
    if degree >= 1:
        basis += [-_C1 * y, _C1 * z, -_C1 * x]
    if degree >= 2:
        basis += [
            _C2_SIDE * x * y,
            -_C2_SIDE * y * z,
            _C2_POLE * (2 * zz - xx - yy),
            -_C2_SIDE * x * z,
            0.5 * _C2_SIDE * (xx - yy),
        ]
    if degree >= 3:
        basis += [
            -_C3_OUTER * y * (3 * xx - yy),
            _C3_PRODUCT * x * y * z,
            -_C3_INNER * y * (4 * zz - xx - yy),
            _C3_POLE * z * (2 * zz - 3 * xx - 3 * yy),
            -_C3_INNER * x * (4 * zz - xx - yy),
            0.5 * _C3_PRODUCT * z * (xx - yy),
            -_C3_OUTER * x * (xx - 3 * yy),
        ]
    return torch.stack(basis, dim=-1)


def evaluate_spherical_harmonics(degree: int, coefficients: Tensor, directions: Tensor) -> Tensor:
    """Sum of harmonics at directions.

    Args:
        degree: 0 to 3.
        coefficients: (..., C, K) with K >= (degree + 1)^2; more are ignored.
        directions: (..., 3) unit vectors.

    Returns:
        (..., C); add 0.5 for the colour of a Gaussian.

    Raises:
        ValueError: the degree is unknown or there are too few coefficients.
    """
    basis = spherical_harmonics_basis(degree, directions)
    count = basis.shape[-1]
    if coefficients.shape[-1] < count:
        raise ValueError(
            f"evaluate_spherical_harmonics: degree {degree} needs {count} coefficients a channel, "
            f"got {coefficients.shape[-1]}"
        )
    return (coefficients[..., :count] * basis[..., None, :]).sum(dim=-1)


def rgb_to_sh(rgb: Tensor) -> Tensor:
    """Degree-0 coefficient of a colour in [0, 1]."""
    return (rgb - 0.5) / _C0


def sh_to_rgb(coefficient: Tensor) -> Tensor:
    """Colour of a degree-0 coefficient; not clamped."""
    return coefficient * _C0 + 0.5
