"""Masks of COCO annotations: polygons, run lengths, their text, and what cannot be decoded."""

import numpy as np
import pytest

from scenegen.inputs.coco_masks import (
    SegmentationError,
    compress_counts,
    decode_segmentation,
    decompress_counts,
    encode_counts,
)

POLYGON = [2.7, 1.2, 13.9, 3.4, 11.1, 9.8, 7.5, 6.2, 3.2, 10.6]
# What OpenCV's fillPoly makes of it, and pycocotools of that.
DRAWN = """
................
..###...........
..#########.....
..############..
..############..
..###########...
...##########...
...####.#####...
...###....##....
...##......#....
...#............
................
"""
COMPRESSED = "i0575KO2N1O1O11O00100ON2Mh0"
SIZE = (12, 16)


def drawn() -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in DRAWN.split()])


def test_a_polygon_covers_what_opencv_fills():
    np.testing.assert_array_equal(decode_segmentation([POLYGON], *SIZE), drawn())


def test_several_polygons_are_one_object():
    square = [14.0, 10.0, 15.0, 10.0, 15.0, 11.0, 14.0, 11.0]
    mask = decode_segmentation([POLYGON, square], *SIZE)
    assert mask.sum() == drawn().sum() + 4


def test_a_polygon_is_cut_at_the_edges_of_the_photo():
    beyond = [-5.0, -5.0, 3.0, -5.0, 3.0, 2.0, -5.0, 2.0]
    assert decode_segmentation([beyond], *SIZE).sum() == 4 * 3
    outside = [20.0, 20.0, 30.0, 20.0, 30.0, 30.0]
    assert not decode_segmentation([outside], *SIZE).any()


@pytest.mark.parametrize("counts", [COMPRESSED, COMPRESSED.encode(), encode_counts(drawn())])
def test_run_lengths_of_every_kind_give_the_mask(counts):
    mask = decode_segmentation({"size": list(SIZE), "counts": counts}, *SIZE)
    np.testing.assert_array_equal(mask, drawn())


def test_compressed_text_is_that_of_the_published_tools():
    assert compress_counts(encode_counts(drawn())) == COMPRESSED


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_masks_come_back_from_both_forms(share):
    mask = np.random.default_rng(3).random((37, 53)) < share
    counts = encode_counts(mask)
    assert decompress_counts(compress_counts(counts)) == counts
    np.testing.assert_array_equal(decode_segmentation({"counts": counts}, 37, 53), mask)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "expected polygons or run lengths, got NoneType"),
        ([[1, 2, 3, 4]], "expected polygons"),
        ([POLYGON[:-1]], "expected polygons"),
        ([[*POLYGON[:-1], float("nan")]], "expected finite coordinates"),
        ([[*POLYGON[:-1], "4"]], "expected finite coordinates"),
        ([[*POLYGON[:-1], 1e30]], "within a million pixels"),
        ({"counts": [5, 3]}, "over the 192 pixels of the photo, got runs over 8 pixels"),
        ({"counts": [-1, 193]}, "got other values"),
        ({"counts": None}, "got other values"),
        ({"size": [16, 12], "counts": COMPRESSED}, "expected a mask of 12 x 16 pixels"),
        ({"counts": "i0 5"}, "' ' does not belong to compressed"),
        ({"counts": COMPRESSED[:-1]}, "end inside a number"),
        ({"counts": "o" * 30}, "does not belong to compressed"),
    ],
)
def test_what_cannot_be_decoded_is_named(segmentation, message):
    with pytest.raises(SegmentationError, match=message):
        decode_segmentation(segmentation, *SIZE)
