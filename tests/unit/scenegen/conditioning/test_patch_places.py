"""What tokens are told of their place: patches of the crop and of the photo that show the same agree."""

import math

import pytest
import torch

from scenegen.conditioning.parts import CondParts
from scenegen.conditioning.patch_places import PLACE_CHANNELS, PictureTokens, patch_places, photo_boxes
from scenegen.conditioning.scene_conditioner import SceneConditioner
from scenegen.synthesis.pictures.crops import crop_objects

SIZE, GRID, SPECIAL = 224, 14, 5
TOKENS = SPECIAL + GRID**2
SHARES = slice(19, 23)
PICTURE = PictureTokens(TOKENS, SPECIAL)


@pytest.fixture
def masks():
    """A wide mask in the upper left and an empty one."""
    masks = torch.zeros(2, SIZE, SIZE)
    masks[0, 32:64, 16:112] = 1.0
    return masks


def test_boxes_span_the_mask_in_units_of_the_photo(masks):
    boxes = photo_boxes(masks)
    torch.testing.assert_close(boxes[0], torch.tensor([16, 32, 112, 64]) / 112 - 1)
    assert not boxes[1].any()


def test_patches_of_the_photo_lie_on_a_grid_and_show_their_share_of_the_mask(masks):
    places = patch_places(masks, PICTURE, [PICTURE])
    assert places.shape == (2, 2 * TOKENS, PLACE_CHANNELS) and places.isfinite().all()
    photo = places[0, TOKENS + SPECIAL :]
    torch.testing.assert_close(photo[:2, :2], torch.tensor([[-13.0, -13.0], [-11.0, -13.0]]) / 14)
    torch.testing.assert_close(photo[:, 3], torch.sin(math.pi * photo[:, 0]))
    shown = photo[:, SHARES].mean(1).view(GRID, GRID)
    torch.testing.assert_close(shown[2:4, 1:7], torch.ones(2, 6), atol=0.3, rtol=0)
    assert float(shown.sum()) == pytest.approx(12, rel=0.05)
    assert not places[1, :, SHARES].any()


def test_patches_of_the_crop_lie_where_the_crop_was_cut(masks):
    """Pictures that hold their own coordinates, cut as the objects of photos are."""
    line = (torch.arange(SIZE) + 0.5) * (2 / SIZE) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    crop = crop_objects(torch.stack([x, y, torch.ones_like(x)])[None], masks[:1] > 0, torch.tensor([0]), GRID)
    places = patch_places(masks, PICTURE, [])[0, SPECIAL:].T.unflatten(1, (GRID, GRID))
    inside = crop[0, 2] > 0.99
    assert inside.sum() > 20
    torch.testing.assert_close(places[:2, inside], crop[0, :2][:, inside], atol=0.03, rtol=0)
    shares = places[SHARES].mean(0)
    assert float((shares - crop[0, 2]).abs().mean()) < 0.08


def test_special_tokens_have_the_box_and_the_flag(masks):
    places = patch_places(masks, PICTURE, [PICTURE])
    boxes = photo_boxes(masks)
    for start in (0, TOKENS):
        special = places[:, start : start + SPECIAL]
        torch.testing.assert_close(special[..., SHARES], boxes[:, None].expand(-1, SPECIAL, -1))
        assert (special[..., -1] == 1).all() and not places[:, start + SPECIAL : start + TOKENS, -1].any()


def test_a_padded_picture_reaches_beyond_the_photo(masks):
    """A photo twice as wide as high, padded to the square: rows in the padding lie outside of [-1, 1]."""
    places = patch_places(masks, PICTURE, [PICTURE._replace(padded=True)], padding=(1.0, 2.0))[0]
    padded = places[TOKENS + SPECIAL :].unflatten(0, (GRID, GRID))
    torch.testing.assert_close(padded[:, 0, 1], torch.linspace(-13, 13, 14) / 7)
    assert not padded[0, :, SHARES].any()
    # a mask of 96 x 32 pixels of the square is 96 x 16 of the photo: the crop is square there, not here
    crop = places[SPECIAL:TOKENS].unflatten(0, (GRID, GRID))
    width = crop[0, -1, 0] - crop[0, 0, 0]
    height = crop[-1, 0, 1] - crop[0, 0, 1]
    assert float(height / width) == pytest.approx(2.0, rel=1e-4)


class _Encoder(torch.nn.Module):
    num_register_tokens = SPECIAL - 1

    def forward(self, images):
        return {"x_prenorm": torch.randn(len(images), TOKENS, 8)}


def test_conditions_carry_places_for_every_token(masks):
    photos, crops = torch.rand(1, 3, SIZE, SIZE), torch.rand(2, 3, SIZE, SIZE)
    parts = CondParts(geometry=False)
    conditioner = SceneConditioner(_Encoder(), None, SIZE, append_places=True)
    mask_images = masks[:, None].expand(-1, 3, -1, -1)
    cond, object_tokens = conditioner.encode_tensors(crops, mask_images, photos, parts=parts)
    assert cond.shape == (2, 3 * TOKENS, 8 + PLACE_CHANNELS) and object_tokens == TOKENS
    torch.testing.assert_close(cond[..., 8:], patch_places(masks, PICTURE, [PICTURE, PICTURE]))
