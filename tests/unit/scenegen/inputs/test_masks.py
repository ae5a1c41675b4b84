"""Orders of objects by the area of their masks."""

from __future__ import annotations

import pytest

from scenegen.inputs.masks import inverse_order, order_by_area


def test_area_order_is_stable_and_can_be_undone() -> None:
    areas = [3, 9, 9, 1, 4, 8, 2, 7, 7, 5, 6, 10]  # twelve assets
    order = order_by_area(areas)
    assert order[:4] == [11, 1, 2, 5] and order[-1] == 3
    reordered = [areas[index] for index in order]
    assert [reordered[index] for index in inverse_order(order)] == areas
    with pytest.raises(ValueError, match="permutation of 0..2"):
        inverse_order([0, 2, 2])
