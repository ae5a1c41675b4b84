"""Asset crops and network input from pictures."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenegen.conditioning.image_preparation import (
    Box,
    RembgBackgroundRemover,
    asset_crop_box,
    images_to_tensor,
    prepare_asset_image,
    prepare_encoder_images,
    prepare_geometry_image,
    prepare_training_asset,
)
from trellis_modules.attention import BackendUnavailable


def _cutout(size: tuple[int, int] = (80, 60), box: Box = (20, 10, 50, 30)) -> Image.Image:
    """A red asset on green that is fully transparent."""
    image = Image.new("RGBA", size, (0, 255, 0, 0))
    image.paste((255, 0, 0, 255), box)
    return image


def test_crop_box_is_square_with_margin_and_may_leave_the_image() -> None:
    alpha = np.zeros((60, 80), np.uint8)
    alpha[10:31, 0:51] = 255  # columns 0..50, rows 10..30: longer side 50, crop side 60
    assert asset_crop_box(alpha) == (-5, -10, 55, 50)


def test_half_transparent_pixels_do_not_count() -> None:
    alpha = np.full((20, 20), 204, np.uint8)
    with pytest.raises(ValueError, match="alpha above 204"):
        asset_crop_box(alpha)
    alpha[5, 6] = 205
    assert asset_crop_box(alpha) == (5, 4, 7, 6)


@pytest.mark.parametrize("size", [(80, 60), (60, 80)])
@pytest.mark.parametrize("image_size", [56, 518])
def test_asset_lies_centred_on_black(size: tuple[int, int], image_size: int) -> None:
    cutout = _cutout(size)
    before = cutout.tobytes()
    pixels = np.asarray(prepare_asset_image(cutout, image_size)).astype(int)
    assert pixels.shape == (image_size, image_size, 3)
    assert pixels[image_size // 2, image_size // 2].tolist() == [255, 0, 0]
    assert pixels[:, :, 1:].max() <= 1, "colour under transparent pixels must not bleed in"
    columns = np.flatnonzero(pixels[..., 0].max(axis=0) > 127)
    assert columns[-1] - columns[0] == pytest.approx(image_size * 30 / 34, rel=0.05)
    assert cutout.tobytes() == before


def test_picture_without_transparency_needs_a_remover() -> None:
    for opaque in (Image.new("RGB", (20, 20)), Image.new("RGBA", (20, 20), (1, 2, 3, 255))):
        with pytest.raises(ValueError, match=f"got {opaque.mode} without transparency"):
            prepare_asset_image(opaque)


def test_remover_gets_a_bounded_rgb_picture() -> None:
    received = []

    def remove(image: Image.Image) -> Image.Image:
        received.append((image.mode, image.size))
        return _cutout(image.size, (5, 5, 40, 40))

    prepare_asset_image(Image.new("RGB", (2048, 100)), 28, remove)
    prepare_asset_image(Image.new("L", (300, 100)), 28, remove)
    assert received == [("RGB", (1024, 50)), ("RGB", (300, 100))]


def test_missing_rembg_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rembg", None)  # makes the import fail
    with pytest.raises(BackendUnavailable, match=r"bash setup.sh --background"):
        RembgBackgroundRemover()(Image.new("RGB", (4, 4)))


def test_rembg_uses_local_weights_and_one_session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sessions = []

    def new_session(name: str, **options: str) -> str:
        sessions.append((name, options))
        return "session"

    fake = types.SimpleNamespace(
        new_session=new_session, remove=lambda image, session: image.convert("RGBA") if session else None
    )
    monkeypatch.setitem(sys.modules, "rembg", fake)
    weights = tmp_path / "u2net.onnx"
    remover = RembgBackgroundRemover(weights)
    with pytest.raises(FileNotFoundError, match="u2net.onnx"):
        remover(Image.new("RGB", (4, 4)))
    weights.touch()
    for _ in range(2):
        assert remover(Image.new("RGB", (4, 4))).mode == "RGBA"
    assert sessions == [("u2net_custom", {"model_path": str(weights)})]


def test_training_crop_counts_faint_pixels() -> None:
    cutout = _cutout()
    cutout.putpixel((70, 50), (255, 0, 0, 1))
    wide, tight = prepare_training_asset(cutout, 64), prepare_training_asset(_cutout(), 64)
    assert wide.shape == (3, 64, 64) and wide[0].sum() < tight[0].sum()
    with pytest.raises(ValueError, match="alpha above 0"):
        prepare_training_asset(Image.new("RGBA", (8, 8)))


def test_encoder_images_are_stretched_and_normalised() -> None:
    grey = Image.new("L", (30, 10), 128)
    batch = prepare_encoder_images([grey, Image.new("RGB", (7, 9))], 28)
    assert batch.shape == (2, 3, 28, 28)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(batch[0, :, 3, 4], (128 / 255 - mean) / std)
    with pytest.raises(ValueError, match="at least one image"):
        images_to_tensor([], 28)


@pytest.mark.parametrize("size", [(100, 40), (40, 100), (33, 33)])
def test_geometry_image_is_padded_with_white(size: tuple[int, int]) -> None:
    image = prepare_geometry_image(Image.new("RGB", size), 56)
    assert image.shape == (1, 1, 3, 56, 56)
    assert image[0, 0, :, 28, 28].tolist() == [0, 0, 0]
    assert (image.max() == 1) == (size[0] != size[1])
