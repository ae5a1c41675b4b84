"""Welding on the device of the vertices: the arrays that `weld` gives, in some milliseconds on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor


def weld_tensors(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """`triangle_arrays.weld` with tolerance 0, for tensors on any device.

    Args:
        vertices: (V, 3) float, finite.
        faces: (F, 3) int64.

    Returns:
        (V', 3) vertices in the order of x, then y, then z, and (F', 3) int64 faces.
    """
    places = vertices + 0.0  # makes -0, which is the same place, equal to 0
    order = torch.arange(len(places), device=places.device)
    for column in reversed(places.unbind(1)):
        order = order[column[order].argsort(stable=True)]
    ordered = places[order]
    starts = torch.ones(len(order), dtype=torch.bool, device=order.device)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(dim=1)
    inverse = torch.empty_like(order)
    inverse[order] = starts.cumsum(0) - 1
    a, b, c = inverse[faces].unbind(1)
    merged = torch.stack([a, b, c], dim=1)[(a != b) & (b != c) & (c != a)]
    welded = vertices[order[starts]]
    used = torch.zeros(len(welded), dtype=torch.bool, device=welded.device)
    used[merged.flatten()] = True
    return welded[used], (used.cumsum(0) - 1)[merged]
