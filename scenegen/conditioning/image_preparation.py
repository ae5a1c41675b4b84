"""Pictures to network input: crops of assets, images for the image encoder and for the geometry encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from scenegen.inputs.cutouts import OPAQUE_ALPHA
from trellis_modules.attention.backends import BackendUnavailable
from vggt.images import PAD, normalize_images, preprocess_images

IMAGE_SIZE = 518
CROP_MARGIN = 1.2
"""Side of the crop over the longer side of the asset's box."""

MAX_SIDE_FOR_MATTING = 1024

RemoveBackground = Callable[[Image.Image], Image.Image]
"""Takes an RGB picture and returns it as RGBA, transparent where the background was."""

Box = tuple[int, int, int, int]


class RembgBackgroundRemover:
    """Background removal by the optional package rembg; its network is loaded at the first picture."""

    def __init__(self, model_path: Path | None = None) -> None:
        """Use the U2-Net weights (.onnx) at ``model_path``; None lets rembg find or fetch its own."""
        self._model_path = model_path
        self._session: Any = None

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return an RGB picture as RGBA.

        Raises:
            BackendUnavailable: rembg is not installed.
            FileNotFoundError: ``model_path`` does not exist.
        """
        rembg = _import_rembg()
        if self._session is None:
            self._session = self._new_session(rembg)
        return rembg.remove(image, session=self._session)

    def _new_session(self, rembg: Any) -> Any:
        if self._model_path is None:
            return rembg.new_session("u2net")
        if not self._model_path.is_file():
            raise FileNotFoundError(
                f"{self._model_path}: expected U2-Net weights for background removal, found no file; "
                "check the path"
            )
        return rembg.new_session("u2net_custom", model_path=str(self._model_path))


def _import_rembg() -> Any:
    try:
        import rembg
    except ImportError as error:
        raise BackendUnavailable(
            "background removal: the asset image has no transparency and the optional package rembg is not "
            "installed; pass RGBA cut-outs or run bash setup.sh --background"
        ) from error
    return rembg


def asset_crop_box(alpha: np.ndarray) -> Box:
    """Find the square around an asset, with margin; it may reach beyond the image.

    Args:
        alpha: (H, W) uint8; pixels above `OPAQUE_ALPHA` are the asset.

    Returns:
        (left, top, right, bottom) in pixels.

    Raises:
        ValueError: no pixel is opaque enough.
    """
    left, top, right, bottom = _bounds(alpha > OPAQUE_ALPHA, f"alpha above {OPAQUE_ALPHA}")
    # A single pixel has no extent between its first and last pixel; two pixels are the smallest crop.
    half = max(int(max(right - left, bottom - top) * CROP_MARGIN) // 2, 1)
    x, y = (left + right) / 2, (top + bottom) / 2
    return round(x - half), round(y - half), round(x + half), round(y + half)


def prepare_asset_image(
    image: Image.Image, image_size: int = IMAGE_SIZE, remove_background: RemoveBackground | None = None
) -> Image.Image:
    """Crop an asset out of its picture and lay it on black.

    Args:
        image: RGBA with some transparency, or any other picture when ``remove_background`` is given.
        image_size: side of the result in pixels.
        remove_background: used for pictures without transparency, for example `RembgBackgroundRemover`.

    Returns:
        (image_size, image_size) RGB; the input is left unchanged.

    Raises:
        ValueError: no pixel of the asset is opaque, or the picture has no transparency and
            ``remove_background`` is None.

    Source: TRELLIS, arXiv:2412.01506, image preparation of the released pipeline.
    """
    rgba = _with_transparency(image, remove_background)
    box = asset_crop_box(np.asarray(rgba)[..., 3])
    crop = _premultiplied_crop(rgba, box, image_size)
    return Image.fromarray((crop * 255).astype(np.uint8))


def prepare_training_asset(image: Image.Image, image_size: int = IMAGE_SIZE) -> Tensor:
    """Crop an asset of the training data: (3, image_size, image_size) float32 in [0, 1] on black.

    Unlike `prepare_asset_image`, every pixel that is not fully transparent counts as the asset, the corners
    of the square are truncated to whole pixels, and the values are not rounded to 8 bits.

    Raises:
        ValueError: the picture is fully transparent.
    """
    rgba = image.convert("RGBA")
    left, top, right, bottom = _bounds(np.asarray(rgba)[..., 3] > 0, "alpha above 0")
    half = max(right - left, bottom - top) / 2 * CROP_MARGIN
    x, y = (left + right) / 2, (top + bottom) / 2
    crop = _premultiplied_crop(rgba, (int(x - half), int(y - half), int(x + half), int(y + half)), image_size)
    return torch.from_numpy(crop).permute(2, 0, 1)


def images_to_tensor(images: Sequence[Image.Image], image_size: int = IMAGE_SIZE) -> Tensor:
    """Stretch pictures to squares: (B, 3, image_size, image_size) float32 in [0, 1].

    Raises:
        ValueError: no image.
    """
    if not images:
        raise ValueError("images_to_tensor: expected at least one image, got an empty list")
    resized = [
        image.convert("RGB").resize((image_size, image_size), Image.Resampling.LANCZOS) for image in images
    ]
    pixels = np.stack([np.asarray(image, dtype=np.float32) for image in resized])
    return torch.from_numpy(pixels / 255).permute(0, 3, 1, 2)  # (B, 3, S, S)


def prepare_encoder_images(images: Sequence[Image.Image], image_size: int = IMAGE_SIZE) -> Tensor:
    """Input of the image encoder: (B, 3, image_size, image_size), ImageNet-normalised, aspect not kept."""
    return normalize_images(images_to_tensor(images, image_size))


def prepare_geometry_image(image: Image.Image, image_size: int = IMAGE_SIZE, patch_size: int = 14) -> Tensor:
    """Input of the geometry encoder: (1, 1, 3, image_size, image_size) in [0, 1], padded with white."""
    return preprocess_images([image], PAD, image_size, patch_size)[None]  # (1, 1, 3, S, S)


def _with_transparency(image: Image.Image, remove_background: RemoveBackground | None) -> Image.Image:
    if image.mode == "RGBA" and image.getextrema()[3][0] < 255:
        return image
    if remove_background is None:
        raise ValueError(
            f"asset image: expected RGBA with a transparent background, got {image.mode} without "
            "transparency; cut the asset out or pass remove_background"
        )
    rgb = image.convert("RGB")
    shrink = min(1.0, MAX_SIDE_FOR_MATTING / max(rgb.size))
    if shrink < 1:
        rgb = rgb.resize((int(rgb.width * shrink), int(rgb.height * shrink)), Image.Resampling.LANCZOS)
    return remove_background(rgb)


def _bounds(is_asset: np.ndarray, criterion: str) -> Box:
    """First and last column and row of the asset: (left, top, right, bottom), the last ones included."""
    rows, columns = np.flatnonzero(is_asset.any(axis=1)), np.flatnonzero(is_asset.any(axis=0))
    if len(rows) == 0:
        raise ValueError(
            f"asset image: expected pixels with {criterion}, found none in {is_asset.shape[1]}x"
            f"{is_asset.shape[0]} pixels; check the cut-out or leave the asset out"
        )
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def _premultiplied_crop(rgba: Image.Image, box: Box, image_size: int) -> np.ndarray:
    """Crop (transparent outside the image), resize and lay on black: (S, S, 3) float32 in [0, 1].

    Pillow weights colours by alpha while it resizes RGBA, so that colour under transparent pixels stays out.
    """
    crop = rgba.crop(box).resize((image_size, image_size), Image.Resampling.LANCZOS)
    values = np.asarray(crop, dtype=np.float32) / 255
    return values[..., :3] * values[..., 3:]
