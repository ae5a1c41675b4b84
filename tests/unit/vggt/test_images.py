"""Image loading: sizes, transparency, padding and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vggt.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalize_images,
    place_images,
    preprocess_images,
    read_images,
)


def solid(width: int, height: int, colour: tuple[int, ...] = (255, 0, 0)) -> Image.Image:
    return Image.new("RGBA" if len(colour) == 4 else "RGB", (width, height), colour)


def test_empty_list_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        preprocess_images([])


def test_unknown_mode_is_named() -> None:
    with pytest.raises(ValueError, match="'stretch'"):
        preprocess_images([solid(8, 8)], mode="stretch")


def test_size_must_split_into_patches() -> None:
    with pytest.raises(ValueError, match="multiple of patch_size, got 100 and 14"):
        preprocess_images([solid(8, 8)], size=100)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent.png"):
        read_images([tmp_path / "absent.png"])


@pytest.mark.parametrize(
    "mode, width, height, shape",
    [
        ("crop", 640, 480, (392, 518)),  # 480 * 518 / 640 = 388.5 pixels = 27.75 patches
        ("crop", 100, 300, (518, 518)),
        ("crop", 2000, 10, (14, 518)),  # never less than one patch
        ("pad", 640, 480, (518, 518)),
        ("pad", 480, 640, (518, 518)),
    ],
)
def test_output_shapes(mode: str, width: int, height: int, shape: tuple[int, int]) -> None:
    images = preprocess_images([solid(width, height)], mode=mode)
    assert images.shape == (1, 3, *shape)
    assert images.dtype == torch.float32


def test_crop_keeps_the_central_rows() -> None:
    pixels = np.zeros((300, 100, 3), dtype=np.uint8)
    pixels[100:200] = 255
    images = preprocess_images([Image.fromarray(pixels)], mode="crop", size=56)
    assert images.shape[-2:] == (56, 56)
    assert images[..., 3:-3, :].min() > 0.99  # the middle third of the column fills the crop
    assert torch.equal(images, images.flip(-2))


def test_pad_centres_a_portrait_on_white() -> None:
    images = preprocess_images([solid(28, 56, (0, 0, 0))], mode="pad", size=56)
    assert torch.all(images[..., :14] == 1) and torch.all(images[..., -14:] == 1)
    assert torch.all(images[..., 14:-14] == 0)


def test_transparency_becomes_white() -> None:
    images = preprocess_images([solid(28, 28, (255, 0, 0, 0)), solid(28, 28, (255, 0, 0, 255))], size=28)
    assert torch.all(images[0] == 1)
    assert torch.all(images[1, 0] == 1) and torch.all(images[1, 1:] == 0)


def test_lower_images_of_a_list_are_padded_with_white() -> None:
    images = preprocess_images([solid(56, 56, (0, 0, 0)), solid(56, 28, (0, 0, 0))], size=56)
    assert images.shape == (2, 3, 56, 56)
    assert torch.all(images[0] == 0)
    assert torch.all(images[1, :, :14] == 1) and torch.all(images[1, :, -14:] == 1)
    assert torch.all(images[1, :, 14:-14] == 0)


def test_files_and_images_agree(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "image.png")
    from_file = read_images([tmp_path / "image.png"])
    assert torch.equal(preprocess_images(from_file, size=56), preprocess_images([image], size=56))


def test_normalisation_is_per_channel() -> None:
    images = torch.rand(2, 1, 3, 4, 5)
    expected = (images - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)
    torch.testing.assert_close(normalize_images(images), expected)


@pytest.mark.parametrize("mode", ["crop", "pad"])
def test_placement_tells_image_from_margin(mode: str) -> None:
    black = [solid(30, 60, (0, 0, 0)), solid(60, 30, (0, 0, 0)), solid(56, 28, (0, 0, 0))]
    images = preprocess_images(black, mode, 56)
    placements, size = place_images([image.size for image in black], mode, 56)
    for image, placement in zip(images, placements):
        assert torch.equal(placement.mask(*size), image[0] == 0)


def test_intrinsics_follow_the_scaling_and_the_cut() -> None:
    (placement,), _ = place_images([(100, 300)], "crop", 56)
    assert placement.scaled_size == (56, 168) and placement.origin == (0, -56)
    seen = torch.tensor([[56.0, 0, 28], [0, 56, 28], [0, 0, 1]])
    expected = torch.tensor([[100.0, 0, 50], [0, 100, 150], [0, 0, 1]])
    torch.testing.assert_close(placement.intrinsics_of_image(seen), expected)
