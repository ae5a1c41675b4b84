"""What a shell on a grid encloses, for tensors: on a GPU by sweeps over all lines of the grid at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis_modules.representations.mesh.enclosed import GridSteps, enclosed_points, near


def enclosed(shell: Tensor, resolution: int) -> Tensor:
    """As `enclosed_points`, for a tensor (X, Y, Z) bool on any device; the same points."""
    if shell.device.type == "cpu":  # NumPy's eight points a byte are faster there
        return torch.from_numpy(enclosed_points(shell.numpy(), resolution))
    return enclosed_points(shell, resolution, steps=STEPS)


def near_points(points: Tensor, steps: int = 1) -> Tensor:
    """As `near`, for a tensor (X, Y, Z) bool on any device."""
    return (
        torch.from_numpy(near(points.numpy(), steps)) if points.device.type == "cpu" else grow(points, steps)
    )


def grow(points: Tensor, steps: int) -> Tensor:
    """`near` by the largest of neighbouring values along one axis after another."""
    if not steps:
        return points
    values = points.to(torch.float16 if points.device.type == "cuda" else torch.float32)
    for axis in range(3):
        lines = values.movedim(axis, -1)
        shape = lines.shape
        grown = F.max_pool1d(lines.reshape(1, -1, shape[-1]), 2 * steps + 1, stride=1, padding=steps)
        values = grown.reshape(shape).movedim(-1, axis)
    return values > 0


def outside(solid: Tensor) -> Tensor:
    """Free points that a path along the axes joins to the first corner of the grid, which is free.

    A sweep along an axis reaches whatever a reached point sees along its line; sweeps end when they add
    nothing.
    """
    reached = torch.zeros_like(solid)
    reached[0, 0, 0] = True
    count = 1
    while True:
        for axis in range(3):
            reached = _sweep(reached, solid, axis)
        before, count = count, int(reached.sum())
        if count == before:
            return reached


def _sweep(reached: Tensor, solid: Tensor, axis: int) -> Tensor:
    """Points that are reached, or have nothing between them and a reached one on a line along an axis."""
    length = solid.shape[axis]
    place = torch.arange(1, length + 1, dtype=torch.int16, device=solid.device)
    place = place.reshape([-1 if number == axis else 1 for number in range(3)])
    seen = reached
    for flipped in (False, True):
        walls, marks = (solid, reached) if not flipped else (solid.flip(axis), reached.flip(axis))
        # The last wall and the last reached point on the way to every point.
        wall = (walls * place).cummax(axis).values
        mark = (marks * place).cummax(axis).values
        found = mark > wall
        seen = seen | (found.flip(axis) if flipped else found)
    return seen


def _pad(points: Tensor, margin: int) -> Tensor:
    return F.pad(points, (margin,) * 6)


STEPS: GridSteps[Tensor] = GridSteps(_pad, grow, outside)
"""For tensors."""
