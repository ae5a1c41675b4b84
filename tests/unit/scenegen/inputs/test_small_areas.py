"""Small areas of label images that were saved as JPEG or smoothed: kept where plainly drawn, else told."""

import io
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageFilter

from scenegen.inputs.label_image import PALETTE, read_label_image

BIG = (1, 7, 14, 20, 33)
OWN_COLOURS = {
    1: (31, 119, 180), 7: (214, 39, 40), 14: (44, 160, 44), 20: (188, 90, 34), 33: (9, 90, 90),
    2: (120, 40, 200),
}  # fmt: skip
PLACES = {"background": (150, 150), "object": (60, 70)}


def drawing() -> np.ndarray:
    """Labels (240, 320): five discs of 35 pixels' radius, two of which touch."""
    rows, columns = np.mgrid[:240, :320]
    labels = np.zeros((240, 320), np.uint8)
    for value, (x, y) in zip(BIG, ((60, 70), (128, 75), (220, 160), (250, 60), (70, 180)), strict=True):
        labels[(columns - x) ** 2 + (rows - y) ** 2 < 35**2] = value
    return labels


def with_square(labels: np.ndarray, side: int, place: str, value: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = PLACES[place]
    mask = np.zeros(labels.shape, bool)
    mask[y - side // 2 : y - side // 2 + side, x - side // 2 : x - side // 2 + side] = True
    return np.where(mask, value, labels).astype(np.uint8), mask


def painted(labels: np.ndarray, colours: str) -> Image.Image:
    palette = PALETTE.copy()
    if colours == "own":
        for label, colour in OWN_COLOURS.items():
            palette[label] = colour
    return Image.fromarray(palette[labels])


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=quality)
    return Image.open(buffer)


def smooth(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1.5))


SPOILS = {"JPEG 90": partial(jpeg, quality=90), "JPEG 75": partial(jpeg, quality=75), "smoothed": smooth}


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("colours", ["palette", "own"])
@pytest.mark.parametrize("side", [12, 18])
def test_a_square_in_a_colour_of_its_own_is_an_object(spoil, place, colours, side):
    labels, mask = with_square(drawing(), side, place, 2)
    read = read_label_image(SPOILS[spoil](painted(labels, colours)))
    found = max(read.masks, key=lambda each: (each & mask).sum() / (each | mask).sum())
    assert len(read.values) == len(BIG) + 1 and not read.lost
    assert (found & mask).sum() / (found | mask).sum() > 0.6


@pytest.mark.parametrize("spoil", SPOILS)
@pytest.mark.parametrize("colours", ["palette", "own"])
def test_a_square_in_the_colour_of_a_disc_is_a_part_of_that_object(spoil, colours):
    labels, mask = with_square(drawing(), 14, "background", BIG[2])
    read = read_label_image(SPOILS[spoil](painted(labels, colours)))
    assert len(read.values) == len(BIG)
    disc, square = (np.bincount(read.labels[where]).argmax() for where in ((labels == 14) & ~mask, mask))
    assert disc == square > 0


@pytest.mark.parametrize("spoil", [*SPOILS, "JPEG 50", "JPEG 40"])
@pytest.mark.parametrize("colours", ["palette", "own"])
def test_noise_beside_large_objects_is_no_object_and_nothing_is_said_of_it(spoil, colours):
    spoils = SPOILS | {"JPEG 50": partial(jpeg, quality=50), "JPEG 40": partial(jpeg, quality=40)}
    read = read_label_image(spoils[spoil](painted(drawing(), colours)))
    assert len(read.values) == len(BIG) and not read.lost


@pytest.mark.parametrize(("width", "height"), [(6, 6), (4, 30), (9, 9)])
def test_an_area_whose_colour_is_gone_is_told_with_its_size(width, height):
    labels = drawing()
    labels[140 : 140 + height, 150 : 150 + width] = 2
    read = read_label_image(jpeg(painted(labels, "palette"), 20))
    small = read.labels[140 : 140 + height, 150 : 150 + width]
    if (small > 0).mean() > 0.5:  # it is plain even so
        return
    (pixels,) = read.lost
    assert 0.3 * width * height < pixels < 3 * width * height
    assert (
        f"left out an area of {pixels} pixels whose colour cannot be told; save the label image as PNG"
        in read.summary
    )


def test_several_areas_are_told_by_the_smallest_and_the_largest():
    read = replace(read_label_image(painted(drawing(), "palette")), lost=(140, 90, 300))
    assert "left out 3 areas of 90 to 300 pixels whose colour cannot be told" in read.summary
