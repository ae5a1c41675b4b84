"""Images to network input, with PIL and torch only."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from safe_files.pictures import open_picture
from safe_files.regular import UnreadableFile

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

CROP, PAD = "crop", "pad"
WHITE = 1.0


def normalize_images(images: Tensor) -> Tensor:
    """Shift and scale (..., 3, H, W) images in [0, 1] by the ImageNet mean and deviation."""
    channels = zip(images.unbind(-3), IMAGENET_MEAN, IMAGENET_STD, strict=True)
    # Channel by channel, so that no constant is copied to the device in each forward pass.
    return torch.stack([(channel - mean) / std for channel, mean, std in channels], dim=-3)


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the network input, in pixels.

    Attributes:
        image_size: width and height of the image.
        scaled_size: width and height after scaling.
        origin: column and row of the scaled image's first pixel; a negative row is cut off.
    """

    image_size: tuple[int, int]
    scaled_size: tuple[int, int]
    origin: tuple[int, int]

    def mask(self, height: int, width: int) -> Tensor:
        """(height, width) bool, true where the network input shows the image and not padding."""
        left, top = self.origin
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[max(top, 0) : top + self.scaled_size[1], left : left + self.scaled_size[0]] = True
        return mask

    def intrinsics_of_image(self, intrinsics: Tensor) -> Tensor:
        """Carry intrinsics (..., 3, 3) in pixels of the network input over to pixels of the image."""
        scale = [image / scaled for image, scaled in zip(self.image_size, self.scaled_size)]
        to_image = torch.tensor(
            [
                [scale[0], 0, -scale[0] * self.origin[0]],
                [0, scale[1], -scale[1] * self.origin[1]],
                [0, 0, 1],
            ],
            dtype=intrinsics.dtype,
            device=intrinsics.device,
        )
        return to_image @ intrinsics


def read_images(paths: Sequence[str | Path]) -> list[Image.Image]:
    """Read image files.

    Raises:
        OSError: a file is missing or no image.
        UnreadableFile: a path leads to no regular file, or a picture has too many pixels.
    """
    images = []
    for path in paths:
        try:
            with open_picture(path) as image:
                image.load()
                images.append(image)
        except UnreadableFile as error:
            raise UnreadableFile(f"{path}: {error}") from error
        except FileNotFoundError:
            raise
        except UnidentifiedImageError as error:
            raise OSError(f"{path}: expected a picture, got other content; save it again") from error
        except (OSError, SyntaxError, EOFError, ValueError, struct.error) as error:  # of Pillow's decoders
            raise OSError(f"{path}: expected a whole picture, reading stopped ({error})") from error
    return images


def place_images(
    image_sizes: Sequence[tuple[int, int]], mode: str = CROP, size: int = 518, patch_size: int = 14
) -> tuple[list[Placement], tuple[int, int]]:
    """Where ``preprocess_images`` puts images of these sizes (width, height), and its (height, width).

    Raises:
        ValueError: as ``preprocess_images``.
    """
    if not image_sizes:
        raise ValueError("preprocess_images: expected at least one image, got an empty list")
    if mode not in (CROP, PAD):
        raise ValueError(f"preprocess_images: mode must be {CROP!r} or {PAD!r}, got {mode!r}")
    if size <= 0 or size % patch_size:
        raise ValueError(
            f"preprocess_images: size must be a positive multiple of patch_size, got {size} and {patch_size}"
        )
    scaled_sizes = [_scaled_size(image_size, mode, size, patch_size) for image_size in image_sizes]
    height = size if mode == PAD else max(min(scaled_height, size) for _, scaled_height in scaled_sizes)
    placements = []
    for image_size, (scaled_width, scaled_height) in zip(image_sizes, scaled_sizes):
        cut = max(scaled_height - size, 0)
        top = (height - min(scaled_height, size)) // 2 - cut // 2
        origin = ((size - scaled_width) // 2, top)
        placements.append(Placement(tuple(image_size), (scaled_width, scaled_height), origin))
    return placements, (height, size)


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
        padded with white, centred.  ``place_images`` tells where each image lies.

    Raises:
        ValueError: no image, unknown mode, or ``size`` is not a multiple of ``patch_size``.

    Source: VGGT, arXiv:2503.11651, released preprocessing.
    """
    placements, (height, width) = place_images([image.size for image in images], mode, size, patch_size)
    tensors = [_scaled_tensor(_to_rgb(image), place) for image, place in zip(images, placements)]
    return torch.stack(
        [_on_canvas(tensor, place, height, width) for tensor, place in zip(tensors, placements)]
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if not ("A" in image.getbands() or "transparency" in image.info):
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _scaled_size(image_size: tuple[int, int], mode: str, size: int, patch_size: int) -> tuple[int, int]:
    """Width and height after scaling the width, or in "pad" mode the longer side, to ``size``."""
    width, height = image_size
    if mode == CROP or width >= height:
        return size, _scaled_side(height, width, size, patch_size)
    return _scaled_side(width, height, size, patch_size), size


def _scaled_side(side: int, reference: int, size: int, patch_size: int) -> int:
    """Scale ``side`` as ``reference`` scales to ``size``; rounded (half to even) to one or more patches."""
    return max(round(side * (size / reference) / patch_size), 1) * patch_size


def _scaled_tensor(image: Image.Image, placement: Placement) -> Tensor:
    pixels = np.asarray(image.resize(placement.scaled_size, Image.Resampling.BICUBIC), dtype=np.float32)
    return torch.from_numpy(pixels / 255).permute(2, 0, 1)  # (3, H, W)


def _on_canvas(image: Tensor, placement: Placement, height: int, width: int) -> Tensor:
    """Cut the rows above and below, fill what is left of (3, height, width) with white."""
    left, top = placement.origin
    image = image[:, max(-top, 0) :][:, :height]
    rows, columns = height - image.shape[1], width - image.shape[2]
    padding = (left, columns - left, max(top, 0), rows - max(top, 0))
    return F.pad(image, padding, value=WHITE)
