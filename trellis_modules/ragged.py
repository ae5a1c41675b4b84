"""Lists of different lengths, expanded and cut into runs of bounded size."""

from __future__ import annotations

import torch
from torch import Tensor


def expand(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For owners with ``counts`` (F,) items each: each item's owner (N,) and number there (N,)."""
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    starts = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - starts[owner]


def runs(counts: Tensor, limit: int) -> list[slice]:
    """Consecutive runs of owners with at most ``limit`` items each; a larger owner is a run of its own."""
    total = counts.cumsum(0)
    if len(counts) == 0 or int(total[-1]) <= limit:
        return [slice(0, len(counts))]
    boundaries = torch.searchsorted(
        total, torch.arange(limit, int(total[-1]) + limit, limit, device=counts.device)
    )
    edges = [0, *sorted({int(b) + 1 for b in boundaries.tolist() if b + 1 < len(counts)}), len(counts)]
    return [slice(a, b) for a, b in zip(edges, edges[1:])]


def count(owners: Tensor, size: int) -> Tensor:
    """How often each of the numbers 0 to ``size - 1`` is among ``owners`` (N,) int64: (size,) int64.

    On a GPU by sorting: the atomic additions of ``torch.bincount`` take hundreds of times as long where there
    are about as many numbers as owners.
    """
    if owners.device.type == "cuda":
        return count_sorted(owners, size)
    return torch.bincount(owners, minlength=size)


def count_sorted(owners: Tensor, size: int) -> Tensor:
    """As `count`, by sorting, on any device."""
    borders = torch.searchsorted(owners.sort().values, torch.arange(size + 1, device=owners.device))
    return borders.diff()
