"""Crops on the device against those of inference."""

import numpy as np
import pytest
import torch
from PIL import Image

from scenegen.conditioning.image_preparation import prepare_asset_image
from scenegen.synthesis.pictures.crops import CROP_MARGIN, crop_objects, mask_boxes, shrink

SIZE = 192


@pytest.fixture
def picture():
    """(3, SIZE, SIZE) smooth colours."""
    y, x = torch.meshgrid(torch.linspace(0, 1, SIZE), torch.linspace(0, 1, SIZE), indexing="ij")
    return torch.stack([0.2 + 0.7 * x, 0.9 - 0.6 * y, 0.5 + 0.4 * torch.sin(6 * x) * torch.cos(5 * y)])


def ellipse(centre_x, centre_y, half_width, half_height):
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return ((x - centre_x) / half_width) ** 2 + ((y - centre_y) / half_height) ** 2 <= 1


@pytest.mark.parametrize(
    "mask",
    [ellipse(90, 80, 60, 25), ellipse(30, 150, 20, 38), ellipse(100, 96, 90, 90)],
    ids=["wide", "corner", "large"],
)
def test_crops_equal_those_of_inference(picture, mask):
    rgba = torch.cat([picture, mask[None].float()]).permute(1, 2, 0).mul(255).round().byte().numpy()
    expected = np.asarray(prepare_asset_image(Image.fromarray(rgba), 56), np.float32) / 255
    crop = crop_objects(picture[None], mask[None], torch.tensor([0]), 56)[0].permute(1, 2, 0).numpy()
    error = np.abs(crop - expected).max(-1)
    inside = expected.min(-1) > 0.05  # the outlines differ: here boxes are not rounded to whole pixels
    assert np.median(error[inside]) < 0.01
    assert error.mean() < 0.03


def test_the_longer_side_of_the_box_fills_the_crop_less_the_margin():
    masks = torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    masks[0, 100:120, 40:101] = True  # 60 pixels from the first to the last column, 19 rows
    masks[1, 10:71, 10:20] = True
    crops = crop_objects(torch.ones(1, 1, SIZE, SIZE), masks, torch.tensor([0, 0]), 120) > 0.5
    for crop, (rows, columns) in zip(crops[:, 0], [(20, 61), (61, 10)], strict=True):
        scale = 120 / (60 * CROP_MARGIN)
        assert int(crop.any(1).sum()) == pytest.approx(rows * scale, abs=2)
        assert int(crop.any(0).sum()) == pytest.approx(columns * scale, abs=2)
        assert torch.equal(crop, crop.flip(0)) or torch.equal(crop[1:], crop.flip(0)[:-1])


def test_each_mask_cuts_from_its_own_picture():
    pictures = torch.stack([torch.full((1, SIZE, SIZE), value) for value in (0.2, 0.8)])
    crops = crop_objects(pictures, ellipse(90, 90, 30, 30).expand(3, -1, -1), torch.tensor([1, 0, 1]), 28)
    assert crops[:, 0, 14, 14].tolist() == pytest.approx([0.8, 0.2, 0.8])
    assert crops[:, 0, 0, 0].tolist() == [0, 0, 0]


def test_boxes_include_the_last_pixels_and_empty_masks_have_none():
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[0, 2:5, 3:7] = True
    masks[1, 7, 0] = True
    assert mask_boxes(masks).tolist() == [[3, 2, 6, 4], [0, 7, 0, 7], [0, 0, 0, 0]]


def test_an_empty_mask_gives_a_black_crop(picture):
    empty = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
    assert torch.equal(crop_objects(picture[None], empty, torch.tensor([0]), 28), torch.zeros(1, 3, 28, 28))


def test_shrinking_averages():
    checks = (torch.arange(SIZE)[:, None] + torch.arange(SIZE)) % 2
    small = shrink(checks[None, None].float(), SIZE // 4)
    assert small.shape == (1, 1, SIZE // 4, SIZE // 4)
    torch.testing.assert_close(small[..., 1:-1, 1:-1], torch.full((1, 1, SIZE // 4 - 2, SIZE // 4 - 2), 0.5))
