"""The floor of a scene."""

import pytest

from scenegen.photo.floor import floor_height


@pytest.mark.parametrize(
    ("bottoms", "sizes", "query", "height"),
    [
        ([-0.5, -0.45, 0.3], [1.0, 0.8, 0.2], 0, -0.5),  # a vase on a table
        ([-0.5, -1.2, -1.22], [1.0, 0.9, 0.9], 0, -1.21),  # the query hangs
        ([0.4], [1.0], 0, 0.4),
        ([-0.5, -0.5, -2.0], [1.0, 1.0, 0.1], 0, -0.5),  # a small thing that sank
    ],
)
def test_floor_is_where_most_of_it_stands(bottoms, sizes, query, height):
    assert floor_height(bottoms, sizes, query) == pytest.approx(height)
