"""Orders of objects by the area of their masks."""

from __future__ import annotations

import pytest

from scenegen.inputs.masks import inverse_order, order_by_area, order_objects


def test_area_order_is_stable_and_can_be_undone() -> None:
    areas = [3, 9, 9, 1, 4, 8, 2, 7, 7, 5, 6, 10]  # twelve assets
    order = order_by_area(areas)
    assert order[:4] == [11, 1, 2, 5] and order[-1] == 3
    reordered = [areas[index] for index in order]
    assert [reordered[index] for index in inverse_order(order)] == areas
    with pytest.raises(ValueError, match="permutation of 0..2"):
        inverse_order([0, 2, 2])


@pytest.mark.parametrize(
    ("order", "query", "expected"),
    [
        ("largest", None, [1, 3, 0, 2]),
        ("smallest", None, [2, 0, 1, 3]),
        ("order", None, [0, 1, 2, 3]),
        ("largest", 2, [2, 1, 3, 0]),
        ("order", 3, [3, 0, 1, 2]),
    ],
)
def test_objects_are_ordered_by_area_or_as_given_behind_the_query(order, query, expected):
    assert order_objects([5, 9, 1, 9], order, query) == expected


def test_a_query_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="expected a query from 0 to 1, got 2"):
        order_objects([5, 9], query=2)
    with pytest.raises(ValueError, match="expected largest, smallest or order, got 'drawn'"):
        order_objects([5, 9], "drawn")
