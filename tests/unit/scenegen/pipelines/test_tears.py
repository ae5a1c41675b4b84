"""Small holes of structures are closed where the network is undecided; openings that it is sure of stay."""

import numpy as np
import pytest
from scipy import ndimage

from scenegen.pipelines.tears import UNDECIDED, without_tears

RESOLUTION = 32
SURE, UNSURE = -6.0, -0.5
HOLE = (slice(14, 17), slice(None), slice(14, 17))  # right through along y
OPENING = (slice(10, 22), slice(None), slice(10, 22))


def board(hole=None, logit=SURE) -> np.ndarray:
    """Logits of an upright board of two voxels' thickness, with a hole of these logits."""
    logits = np.full((RESOLUTION,) * 3, SURE, np.float32)
    logits[4:28, 15:17, 4:28] = 2.0
    if hole is not None:
        logits[:, 15:17][hole] = logit
    return logits


def shown_holes(logits: np.ndarray) -> int:
    """How many holes the structure has, seen along y."""
    seen = (logits > 0).any(axis=1)
    return ndimage.label(ndimage.binary_fill_holes(seen) & ~seen)[1]


def test_hole_of_undecided_voxels_is_closed():
    torn = board(HOLE, UNSURE)
    mended = without_tears(torn)
    assert shown_holes(torn) == 1 and shown_holes(mended) == 0
    changed = mended != torn
    assert (torn[changed] == np.float32(UNSURE)).all() and (mended[changed] > 0).all()
    assert mended.dtype == torn.dtype and shown_holes(torn) == 1  # what was given is as it was


def test_hole_that_the_network_is_sure_of_stays():
    logits = board(HOLE, -UNDECIDED - 0.1)
    assert (without_tears(logits) == logits).all()


def test_large_opening_is_not_closed_although_the_network_is_undecided():
    assert shown_holes(without_tears(board(OPENING, UNSURE))) == 1  # as between the bars of a bed


def test_gap_between_legs_stays_whatever_its_logits():
    logits = board((HOLE[0], slice(None), slice(0, 20)), UNSURE)
    assert (without_tears(logits) == logits).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_crack_is_closed_along_every_axis(axis):
    torn = np.moveaxis(board((slice(10, 18), slice(None), slice(15, 17)), UNSURE), 1, axis)
    mended = without_tears(np.ascontiguousarray(torn))
    assert shown_holes(np.moveaxis(mended, axis, 1)) == 0


def test_sight_line_through_two_sheets_is_closed_where_the_network_is_less_sure():
    logits = board(HOLE, UNSURE)
    logits[4:28, 6:8, 4:28] = 2.0
    logits[13:18, 6:8, 13:18] = SURE  # an opening that it is sure of, before the tear
    mended = without_tears(logits)
    assert shown_holes(logits) == 1 and shown_holes(mended) == 0
    assert (mended[13:18, 6:8, 13:18] == SURE).all()


@pytest.mark.parametrize("value", [-3.0, -1.0, 1.0])
def test_what_is_empty_or_full_stays(value):
    logits = np.full((8, 8, 8), value, np.float32)
    assert (without_tears(logits) == logits).all()
