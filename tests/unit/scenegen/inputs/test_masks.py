"""Areas of masks, and orders of objects."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from scenegen.inputs.masks import inverse_order, mask_area, order_by_area


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1"])
def test_mask_area_counts_pixels_not_channels(mode: str) -> None:
    mask = np.zeros((6, 5), np.uint8)
    mask[2:4, 1:4] = 255
    assert mask_area(Image.fromarray(mask).convert(mode)) == 6


def test_area_order_is_stable_and_can_be_undone() -> None:
    areas = [3, 9, 9, 1, 4, 8, 2, 7, 7, 5, 6, 10]  # twelve assets
    order = order_by_area(areas)
    assert order[:4] == [11, 1, 2, 5] and order[-1] == 3
    reordered = [areas[index] for index in order]
    assert [reordered[index] for index in inverse_order(order)] == areas
    with pytest.raises(ValueError, match="permutation of 0..2"):
        inverse_order([0, 2, 2])
