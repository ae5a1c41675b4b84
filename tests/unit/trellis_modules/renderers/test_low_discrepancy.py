"""Properties of the sequences that single numbers show."""

import math

import pytest

from trellis_modules.renderers.low_discrepancy import (
    halton,
    hammersley_set,
    radical_inverse,
    sphere_hammersley,
)


def test_radical_inverse_mirrors_digits():
    assert radical_inverse(2, 6) == 0.375
    assert radical_inverse(10, 123) == pytest.approx(0.321)
    assert radical_inverse(3, 0) == 0


def test_sets_fill_every_cell_of_the_cube_once():
    points = hammersley_set(2, 64)
    cells = {(int(x * 8), int(y * 8)) for x, y in points}
    assert len(cells) == 64


def test_sphere_directions_balance():
    directions = [sphere_hammersley(i, 256, (0.5, 0.0)) for i in range(256)]
    centre = [
        sum(math.cos(p) * math.cos(y) for y, p in directions) / 256,
        sum(math.cos(p) * math.sin(y) for y, p in directions) / 256,
        sum(math.sin(p) for _, p in directions) / 256,
    ]
    assert max(map(abs, centre)) < 0.02


def test_unknown_dimension():
    with pytest.raises(ValueError, match="got 9"):
        halton(9, 1)
