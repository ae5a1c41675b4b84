"""Label images to cut-outs, and orders of assets."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from scenegen.inputs.masks import inverse_order, mask_area, order_by_area, split_masks


def _scene(areas: dict[int, int]) -> tuple[Image.Image, Image.Image]:
    """A photo and a label image with one row per label, ``areas[label]`` pixels long."""
    labels = np.zeros((len(areas) + 1, 40), np.uint8)
    for row, (label, area) in enumerate(areas.items()):
        labels[row, :area] = label
    photo = np.random.default_rng(0).integers(1, 256, (*labels.shape, 3), dtype=np.uint8)
    return Image.fromarray(photo), Image.fromarray(labels)


def test_orders_and_ties() -> None:
    photo, labels = _scene({7: 5, 3: 9, 200: 5})
    by_order = {
        order: [cutout.label for cutout in split_masks(photo, labels, order)]
        for order in ("order", "smallest", "largest")
    }
    assert by_order == {"order": [3, 7, 200], "smallest": [7, 200, 3], "largest": [3, 200, 7]}


def test_cutout_shows_the_photo_inside_and_nothing_outside() -> None:
    photo, labels = _scene({1: 4})
    (cutout,) = split_masks(photo, labels)
    rgba = np.asarray(cutout.image)
    assert (rgba[0, :4, :3] == np.asarray(photo)[0, :4]).all() and (rgba[0, :4, 3] == 255).all()
    assert not rgba[0, 4:].any() and not rgba[1:].any()
    assert cutout.area == mask_area(cutout.mask) == 4


@pytest.mark.parametrize("count", [1, 12])
def test_every_label_becomes_one_asset(count: int) -> None:
    photo, labels = _scene({label: label for label in range(1, count + 1)})
    assert [cutout.area for cutout in split_masks(photo, labels)] == list(range(1, count + 1))


def test_bad_input_is_explained() -> None:
    photo, labels = _scene({1: 4})
    with pytest.raises(ValueError, match="the label image is empty"):
        split_masks(photo, Image.new("L", photo.size))
    with pytest.raises(ValueError, match=r"photo's size \(40, 2\), got \(8, 8\)"):
        split_masks(photo, labels.resize((8, 8)))
    with pytest.raises(ValueError, match="got 'biggest'"):
        split_masks(photo, labels, "biggest")


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
