"""Low-discrepancy sequences: evenly spread points of the unit cube and directions of the sphere."""

from __future__ import annotations

import math

import numpy as np

_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)


def radical_inverse(base: int, index: int) -> float:
    """Mirror the digits of ``index`` in ``base`` at the point: 6 = 110 in base 2 becomes 0.011 = 0.375."""
    value, weight = 0.0, 1.0 / base
    while index > 0:
        index, digit = divmod(index, base)
        value += digit * weight
        weight /= base
    return value


def halton(dim: int, index: int) -> tuple[float, ...]:
    """Point ``index`` of the Halton sequence in [0, 1)^dim, with the first ``dim`` primes as bases.

    Raises:
        ValueError: dim is not in [0, 8].
    """
    if not 0 <= dim <= len(_PRIMES):
        raise ValueError(f"halton: dim must be in [0, {len(_PRIMES)}], got {dim}")
    return tuple(radical_inverse(base, index) for base in _PRIMES[:dim])


def hammersley(dim: int, index: int, num_samples: int) -> tuple[float, ...]:
    """Point ``index`` of the Hammersley set of ``num_samples`` points in [0, 1)^dim."""
    return (index / num_samples, *halton(dim - 1, index))


def hammersley_set(dim: int, num_samples: int) -> np.ndarray:
    """All points of a Hammersley set: (num_samples, dim) float64 in [0, 1)."""
    return np.array([hammersley(dim, i, num_samples) for i in range(num_samples)]).reshape(num_samples, dim)


def sphere_hammersley(
    index: int, num_samples: int, offset: tuple[float, float] = (0.0, 0.0), remap: bool = False
) -> tuple[float, float]:
    """Direction ``index`` of ``num_samples`` directions spread over the sphere.

    Args:
        index, num_samples: which of how many.
        offset: shift of the two coordinates, in samples and in turns; the yaw is not wrapped.
        remap: spread the first quarter of the directions over the lower half of the sphere.

    Returns:
        (yaw, pitch) in radians; pitch in [-pi/2, pi/2], from below to above.
    """
    u, v = hammersley(2, index, num_samples)
    u, v = u + offset[0] / num_samples, v + offset[1]
    if remap:
        u = 2 * u if u < 0.25 else 2 * u / 3 + 1 / 3
    return 2 * math.pi * v, math.acos(1 - 2 * u) - math.pi / 2
