"""The order of a scene's objects by the area of their masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

ObjectOrder = Literal["largest", "smallest", "order"]
"""By falling area, by rising area, or as the objects are given."""


def order_by_area(areas: Sequence[int]) -> list[int]:
    """Indices from the largest area to the smallest, equal ones in given order; the first is the query."""
    return sorted(range(len(areas)), key=lambda index: -areas[index])


def order_objects(
    areas: Sequence[int], order: ObjectOrder = "largest", query: int | None = None
) -> list[int]:
    """Indices in the order in which the networks see the objects; the first is the query.

    Args:
        areas: of the objects' masks.
        order: see `ObjectOrder`; of equal areas, the objects stay as they are given.
        query: the object that comes first all the same; None leaves it where the order has it.

    Raises:
        ValueError: there is no such object, or another order.
    """
    if order == "order":
        indices = list(range(len(areas)))
    elif order in ("largest", "smallest"):
        indices = order_by_area(areas if order == "largest" else [-area for area in areas])
    else:
        raise ValueError(f"order_objects: expected largest, smallest or order, got {order!r}")
    if query is None:
        return indices
    if not 0 <= query < len(areas):
        raise ValueError(f"order_objects: expected a query from 0 to {len(areas) - 1}, got {query}")
    return [query, *(index for index in indices if index != query)]


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
