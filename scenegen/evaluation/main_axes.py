"""The main axes of a surface: the three directions, at right angles, along which most of it faces."""

from __future__ import annotations

import numpy as np

from scenegen.evaluation.registration import nearest_rotation

# Products of two coordinates, each once, and where a product is among them.
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
_PAIR_AT = np.array([[0, 1, 2], [1, 3, 4], [2, 4, 5]])
_STEPS = 100
_LAST_STEP = 1e-9  # of the axes, per step, in radians


def main_axes(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Find the main axes of triangles, which turn with them.

    They maximise the sum over the surface of the fourth powers of what its normals have along each axis:
    furniture faces up, down, and a few other ways. The axes begin at those of the normals' second moments and
    at those of the vertices, and the better end counts: the second moments of a cube have no axes.

    Args:
        vertices: (V, 3).
        faces: (F, 3) indices.

    Returns:
        (3, 3) rotation whose rows are the axes; their order and signs say nothing.

    Source: the quartimax criterion (J. Neuhaus, C. Wrigley, 1954), by the fixed point of A. Hyvarinen,
    Fast and robust fixed-point algorithms for independent component analysis, 1999.
    """
    first, second, third = (vertices.T[:, column] for column in faces.T)
    (ax, ay, az), (bx, by, bz) = second - first, third - first
    normals = np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])  # (3, F)
    doubled = np.sqrt(np.einsum("if,if->f", normals, normals))
    unit = normals[:, doubled > 0] / doubled[doubled > 0]
    shares = doubled[doubled > 0] / doubled.sum()
    pairs = np.stack([unit[i] * unit[j] for i, j in _PAIRS])  # (6, F)
    moments = (shares * unit) @ unit.T
    fourth = ((shares * pairs) @ pairs.T)[_PAIR_AT[:, :, None, None], _PAIR_AT]  # (3, 3, 3, 3)
    spread = np.cov(vertices.T)
    ends = [_fixed_point(fourth, np.linalg.eigh(each)[1].T) for each in (moments, spread)]
    return max(ends, key=lambda axes: _sharpness(fourth, axes))


def _fixed_point(fourth: np.ndarray, axes: np.ndarray) -> np.ndarray:
    axes = axes * np.array([[np.linalg.det(axes)], [1.0], [1.0]])  # not mirrored
    for _ in range(_STEPS):
        pull = np.einsum("ijkl,aj,ak,al->ai", fourth, axes, axes, axes)
        updated = nearest_rotation(pull)
        step, axes = np.abs(updated - axes).max(), updated
        if step < _LAST_STEP:
            break
    return axes


def _sharpness(fourth: np.ndarray, axes: np.ndarray) -> float:
    """Sum over the surface and the axes of the fourth powers of the normals."""
    return float(np.einsum("ijkl,ai,aj,ak,al->", fourth, axes, axes, axes, axes))
