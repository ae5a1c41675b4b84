"""The order of a scene's objects by the area of their masks."""

from __future__ import annotations

from collections.abc import Sequence


def order_by_area(areas: Sequence[int]) -> list[int]:
    """Indices from the largest area to the smallest, equal ones in given order; the first is the query."""
    return sorted(range(len(areas)), key=lambda index: -areas[index])


def inverse_order(order: Sequence[int]) -> list[int]:
    """The permutation that restores the caller's order: ``[reordered[i] for i in inverse_order(order)]``.

    Raises:
        ValueError: ``order`` is no permutation of 0, 1, ..., n - 1.
    """
    if sorted(order) != list(range(len(order))):
        raise ValueError(f"inverse_order: expected a permutation of 0..{len(order) - 1}, got {list(order)}")
    inverse = [0] * len(order)
    for position, index in enumerate(order):
        inverse[index] = position
    return inverse
