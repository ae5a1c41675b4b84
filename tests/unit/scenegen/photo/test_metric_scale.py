"""Metres per unit, from the sizes of known furniture."""

import numpy as np
import pytest

from scenegen.photo.metric_scale import furniture_sizes, metric_scale

BED, CHAIR, TABLE = (1.6, 0.9, 2.1), (0.45, 0.9, 0.5), (1.6, 0.75, 0.8)


@pytest.mark.parametrize("unit_m", [0.7, 1.0, 2.2])
def test_a_bed_a_table_and_chairs_tell_the_scale(unit_m):
    found = metric_scale(np.array([BED, TABLE, CHAIR, CHAIR]) / unit_m)
    assert found.metres_per_unit == pytest.approx(unit_m, rel=0.2)
    assert found.low < found.metres_per_unit < found.high


def test_more_objects_make_it_surer():
    alone, together = metric_scale(np.array([CHAIR])), metric_scale(np.array([CHAIR, BED, TABLE]))
    assert np.log(together.high / together.low) < np.log(alone.high / alone.low)


def test_an_object_like_no_furniture_says_nothing():
    odd = (0.001, 7.0, 7.0)
    with_it, without = metric_scale(np.array([BED, TABLE, odd])), metric_scale(np.array([BED, TABLE]))
    assert with_it.metres_per_unit == pytest.approx(without.metres_per_unit, rel=0.1)


def test_flat_and_empty_boxes_are_taken():
    assert 0.1 < metric_scale(np.zeros((1, 3))).metres_per_unit < 8


@pytest.mark.parametrize("boxes", [np.zeros((0, 3)), np.zeros(3), np.zeros((2, 2))])
def test_no_boxes_are_refused(boxes):
    with pytest.raises(ValueError, match="expected boxes"):
        metric_scale(boxes)


def test_table_says_where_it_comes_from():
    table = furniture_sizes()
    assert "training split" in table["source"] and len(table["sizes_m"]) > 300
    assert np.array(table["sizes_m"]).min() > 0 and np.array(table["sizes_m"]).max() < 10
