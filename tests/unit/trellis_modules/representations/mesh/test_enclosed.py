"""What counts as enclosed: cavities behind narrow openings, gaps, and nothing that is open."""

import numpy as np
import pytest

from trellis_modules.representations.mesh.enclosed import Closing, enclosed_points

RESOLUTION = 64
SIZE = 40


def box(opening: int) -> np.ndarray:
    """Walls one point thick around 38^3 points, with a square opening in the middle of one wall."""
    shell = np.ones((SIZE,) * 3, dtype=bool)
    shell[1:-1, 1:-1, 1:-1] = False
    side = slice((SIZE - opening) // 2, (SIZE - opening) // 2 + opening)
    shell[side, side, -1] = False
    return shell


@pytest.mark.parametrize("opening", [0, 2, 4, 8])
def test_cavities_behind_narrow_openings_are_filled(opening):
    enclosed = enclosed_points(box(opening), RESOLUTION)
    assert enclosed[1:-1, 1:-1, 1:-1].all() and not (enclosed & box(opening)).any()


def test_wide_openings_stay_open():
    assert not enclosed_points(box(20), RESOLUTION).any()
    assert enclosed_points(box(20), RESOLUTION, Closing(opening=0.6))[1:-1, 1:-1, 1:-1].all()


def test_a_compartment_as_wide_as_its_opening_is_no_cavity():
    assert not enclosed_points(box(38), RESOLUTION, Closing(gap=0, opening=0.9))[..., :-1].any()


def test_gaps_are_filled_up_to_their_width():
    slats = np.zeros((20, 20, 4), dtype=bool)
    slats[::3] = True  # gaps of two points
    assert enclosed_points(slats, 128)[:19].sum() == (~slats[:19]).sum()
    assert not enclosed_points(slats, 128, Closing(gap=0)).any()
    slats[1::3] = False
    slats[3::6] = False  # gaps of five
    assert not enclosed_points(slats, 128).any()


def test_widths_are_shares_of_the_cube():
    assert [Closing().gap_radius(resolution) for resolution in (8, 64, 128, 256)] == [0, 0, 1, 2]
    assert Closing().opening_radii(128) == [1, 2, 4, 8] and Closing().opening_radii(8) == []


def test_nothing_encloses_nothing():
    assert not enclosed_points(np.zeros((5, 6, 7), dtype=bool), RESOLUTION).any()


@pytest.mark.parametrize("widths", [{"gap": -0.1}, {"opening": 1.0}])
def test_widths_out_of_range_are_refused(widths):
    with pytest.raises(ValueError, match=r"expected gap and opening in \[0, 1\)"):
        Closing(**widths)
