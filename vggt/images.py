"""Images to network input, with PIL and torch only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

CROP, PAD = "crop", "pad"
WHITE = 1.0


def normalize_images(images: Tensor) -> Tensor:
    """Shift and scale (..., 3, H, W) images in [0, 1] by the ImageNet mean and deviation."""
    channels = zip(images.unbind(-3), IMAGENET_MEAN, IMAGENET_STD, strict=True)
    # Channel by channel, so that no constant is copied to the device in each forward pass.
    return torch.stack([(channel - mean) / std for channel, mean, std in channels], dim=-3)


def load_images(
    paths: Sequence[str | Path], mode: str = CROP, size: int = 518, patch_size: int = 14
) -> Tensor:
    """Read image files and preprocess them; arguments, result and errors as in ``preprocess_images``.

    Raises:
        OSError: a file is missing or no image.
    """
    images = []
    for path in paths:
        with Image.open(path) as image:
            image.load()
            images.append(image)
    return preprocess_images(images, mode, size, patch_size)


def preprocess_images(
    images: Sequence[Image.Image], mode: str = CROP, size: int = 518, patch_size: int = 14
) -> Tensor:
    """Bring images to one size that splits into patches.

    Args:
        images: any PIL mode and size; transparency is composited over white.
        mode: "crop" scales the width to ``size`` and cuts rows beyond ``size`` above and below alike; "pad"
            scales the longer side to ``size`` and pads with white to a centred square.
        size: pixels, a multiple of ``patch_size``.
        patch_size: pixels per edge of a patch; the scaled side is rounded to a multiple of it.

    Returns:
        (N, 3, H, W) float32 in [0, 1]; where images of a "crop" list differ in height, the lower ones are
        padded with white, centred.

    Raises:
        ValueError: no image, unknown mode, or ``size`` is not a multiple of ``patch_size``.

    Source: VGGT, arXiv:2503.11651, released preprocessing.
    """
    if not images:
        raise ValueError("preprocess_images: expected at least one image, got an empty list")
    if mode not in (CROP, PAD):
        raise ValueError(f"preprocess_images: mode must be {CROP!r} or {PAD!r}, got {mode!r}")
    if size <= 0 or size % patch_size:
        raise ValueError(
            f"preprocess_images: size must be a positive multiple of patch_size, got {size} and {patch_size}"
        )
    fit = _crop_to_width if mode == CROP else _pad_to_square
    tensors = [fit(_to_rgb(image), size, patch_size) for image in images]
    height = max(tensor.shape[1] for tensor in tensors)
    width = max(tensor.shape[2] for tensor in tensors)
    return torch.stack([_pad_centred(tensor, height, width) for tensor in tensors])


def _to_rgb(image: Image.Image) -> Image.Image:
    if not ("A" in image.getbands() or "transparency" in image.info):
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _crop_to_width(image: Image.Image, size: int, patch_size: int) -> Tensor:
    height = _scaled_side(image.height, image.width, size, patch_size)
    tensor = _resized_tensor(image, size, height)
    first_row = max(height - size, 0) // 2
    return tensor[:, first_row : first_row + size]


def _pad_to_square(image: Image.Image, size: int, patch_size: int) -> Tensor:
    if image.width >= image.height:
        width, height = size, _scaled_side(image.height, image.width, size, patch_size)
    else:
        width, height = _scaled_side(image.width, image.height, size, patch_size), size
    return _pad_centred(_resized_tensor(image, width, height), size, size)


def _scaled_side(side: int, reference: int, size: int, patch_size: int) -> int:
    """Scale ``side`` as ``reference`` scales to ``size``; rounded (half to even) to one or more patches."""
    return max(round(side * (size / reference) / patch_size), 1) * patch_size


def _resized_tensor(image: Image.Image, width: int, height: int) -> Tensor:
    pixels = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    return torch.from_numpy(pixels / 255).permute(2, 0, 1)  # (3, H, W)


def _pad_centred(image: Tensor, height: int, width: int) -> Tensor:
    rows, columns = height - image.shape[1], width - image.shape[2]
    padding = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    return F.pad(image, padding, value=WHITE)
