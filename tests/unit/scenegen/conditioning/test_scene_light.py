"""Tones of photos and of the objects in them."""

import pytest
import torch

from scenegen.conditioning.scene_light import (
    COLOUR_SPREAD,
    LIGHT_TONES,
    OBJECT_BANDS,
    PHOTO_BANDS,
    append_light,
    light_tones,
)

SIZE = 112


def _photo() -> tuple[torch.Tensor, torch.Tensor]:
    """A red square on a floor that is black on the left and white on the right, and its mask."""
    photo = torch.zeros(1, 3, SIZE, SIZE)
    photo[..., SIZE // 2 :] = 1.0
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., 20:40, 70:90] = 1.0
    photo = torch.where(mask > 0, torch.tensor([1.0, 0, 0])[:, None, None], photo)
    return photo, mask


def _colours(tones: torch.Tensor) -> torch.Tensor:
    """(B, LIGHT_TONES) -> (B, bands, 3) in [0, 1]."""
    return (tones * COLOUR_SPREAD + 0.5).unflatten(1, (-1, 3))


def test_tones_are_those_of_the_photo_the_object_and_what_is_around_it() -> None:
    photo, mask = _photo()
    tones = light_tones(photo, mask)
    assert tones.shape == (1, LIGHT_TONES)
    of_photo, of_object, around = _colours(tones)[0].split([len(PHOTO_BANDS), len(OBJECT_BANDS), 1])
    torch.testing.assert_close(of_photo[0], photo.mean((0, 2, 3)))
    torch.testing.assert_close(of_photo[1], torch.zeros(3))  # the darkest
    torch.testing.assert_close(of_photo[-1], torch.ones(3))  # the brightest
    torch.testing.assert_close(of_object, torch.tensor([1.0, 0, 0]).expand_as(of_object))
    torch.testing.assert_close(around[0], torch.ones(3))


def test_bands_of_an_object_go_from_dark_to_bright_and_hold_their_share() -> None:
    photo = (torch.arange(SIZE * SIZE) / SIZE**2).view(1, 1, SIZE, SIZE).expand(-1, 3, -1, -1)
    tones = _colours(light_tones(photo, torch.ones(1, 1, SIZE, SIZE)))[0, :, 0]
    expected = [(low + high) / 2 for low, high in (*PHOTO_BANDS, *OBJECT_BANDS, (0.0, 1.0))]
    torch.testing.assert_close(tones, torch.tensor(expected), atol=1e-3, rtol=0)


def test_every_object_has_the_tones_of_its_own_photo_at_any_size() -> None:
    photo, mask = _photo()
    large = torch.cat([photo, 1 - photo]).repeat_interleave(3, 2).repeat_interleave(2, 3)
    masks = mask.repeat_interleave(3, 2).repeat_interleave(2, 3)
    other = masks.roll(-100, 3)
    tones = light_tones(large, torch.cat([masks, other, masks, other]))
    assert tones.shape[0] == 4 and not torch.equal(tones[0], tones[1])
    torch.testing.assert_close(tones[0], light_tones(photo, mask)[0])
    torch.testing.assert_close(tones[2], light_tones(1 - photo, mask)[0])


def test_masks_of_a_pixel_and_of_none_have_finite_tones() -> None:
    photo, mask = _photo()
    speck = torch.zeros_like(mask)
    speck[..., 3, 3] = 1.0
    tones = _colours(light_tones(photo, torch.cat([speck, torch.zeros_like(mask)])))
    assert tones.isfinite().all()
    own = slice(len(PHOTO_BANDS), len(PHOTO_BANDS) + len(OBJECT_BANDS))
    assert not tones[0, own].any()
    torch.testing.assert_close(tones[1, own][0], photo.mean((0, 2, 3)))


def test_masks_that_do_not_belong_to_the_photos_are_refused() -> None:
    photo, mask = _photo()
    with pytest.raises(ValueError, match="each of 2 photos, got 3 masks"):
        light_tones(photo.expand(2, -1, -1, -1), mask.expand(3, -1, -1, -1))


def test_each_token_of_an_object_gets_its_tones() -> None:
    tones = torch.arange(2.0 * LIGHT_TONES).view(2, -1)
    joined = append_light(torch.ones(2, 5, 4), tones)
    assert joined.shape == (2, 5, 4 + LIGHT_TONES) and joined[..., :4].eq(1).all()
    assert torch.equal(joined[:, 3, 4:], tones)
