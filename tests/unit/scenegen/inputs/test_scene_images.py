"""A photo with its objects, put together by hand."""

import numpy as np
import pytest
from PIL import Image

from scenegen.inputs.scene_images import SceneImages

PHOTO = Image.fromarray(np.random.default_rng(0).integers(1, 256, (6, 8, 3), dtype=np.uint8))


def _mask(column: int) -> np.ndarray:
    mask = np.zeros((6, 8), np.uint8)
    mask[1:4, column] = 200
    return mask


def test_objects_are_numbered_from_zero_unless_they_have_numbers():
    masks = [_mask(1), _mask(5)]
    assert SceneImages.from_masks(PHOTO, masks).object_ids == (0, 1)
    numbered = SceneImages.from_masks(PHOTO, masks, np.array([7, 3]))
    assert numbered.object_ids == (7, 3) and type(numbered.object_ids[0]) is int
    assert SceneImages(PHOTO, [], []).object_ids == ()


def test_cutouts_show_the_photo_inside_the_masks_and_nothing_outside():
    images = SceneImages.from_masks(PHOTO, [_mask(1), _mask(5)])
    assert [mask.dtype for mask in images.masks] == [bool, bool]
    for mask, cutout in zip(images.masks, images.cutouts, strict=True):
        rgba = np.asarray(cutout)
        assert (rgba[mask][:, :3] == np.asarray(PHOTO)[mask]).all() and (rgba[mask][:, 3] == 255).all()
        assert not rgba[~mask].any()


@pytest.mark.parametrize("mask", [np.zeros((6, 8)), np.ones((8, 6))], ids=["empty", "of another size"])
def test_mask_that_does_not_fit_the_photo_is_refused(mask):
    with pytest.raises(ValueError, match="expected masks of 6 x 8 with pixels above 0, mask 1 has shape"):
        SceneImages.from_masks(PHOTO, [_mask(1), mask])
