"""Where each token of a condition lies in the photo, and how much of its asset it shows.

A small model that is trained on few scenes would spend most of them on finding out that a patch of the crop,
one of the mask, one of the scene and one of its geometry are the same place. Here every token says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from scenegen.conditioning.image_preparation import CROP_MARGIN

PLACE_CHANNELS = 24
"""Numbers that `patch_places` gives for a token."""

_FREQUENCIES = 4

PLACE_CODE_SIZE = 2 + 4 * _FREQUENCIES
"""Numbers that `place_code` gives for a place."""

_MASK_SIZE = 56  # the mask is averaged to so many cells along an edge before it is looked up
_SMALLEST_HALF = 0.01  # of the photo's half edge: the crop of a vanishing mask


class PictureTokens(NamedTuple):
    """The tokens of one picture: special ones, then its square grid of patches row by row."""

    total: int
    special: int  # class or camera token and registers
    padded: bool = False  # the photo was padded to a square, not stretched

    @property
    def grid(self) -> int:
        """Patches along an edge."""
        return math.isqrt(self.total - self.special)


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes (K, 4) float32 of masks (K, H, W): first x, first y, last x, last y; zeros when empty."""

    def span(line: Tensor) -> tuple[Tensor, Tensor]:
        index = torch.arange(line.shape[1], device=line.device)
        return (torch.where(line, index, line.shape[1]).amin(1), torch.where(line, index, -1).amax(1))

    (x0, x1), (y0, y1) = span(masks.any(1)), span(masks.any(2))
    boxes = torch.stack([x0, y0, x1, y1], -1).float()
    return torch.where((x1 >= 0)[:, None], boxes, 0.0)


def photo_boxes(masks: Tensor) -> Tensor:
    """Boxes (B, 4) float32 around masks (B, I, I) above a half: x0, y0, x1, y1 with the photo as [-1, 1].

    An empty mask gives zeros.
    """
    shown = masks > 0.5
    first, last = mask_boxes(shown).split(2, dim=-1)
    edges = torch.cat([first, last + 1], dim=-1) * (2 / masks.shape[-1]) - 1
    return torch.where(shown.flatten(1).any(1)[:, None], edges, 0.0)


@torch.no_grad()
def patch_places(
    masks: Tensor,
    crop: PictureTokens,
    photos: Sequence[PictureTokens],
    padding: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Describe the tokens of B assets.

    Channels of a token: x, y of its middle and the logarithm of its picture's half width, the photo being
    [-1, 1]; sine and cosine of pi 2^k x and pi 2^k y, k < 4; the share of the asset's mask in each
    quarter of the patch; 0. Class, camera and register tokens have the middle and the half width of the
    asset's crop, the edges of its box in place of the shares, and a last channel of 1.

    Args:
        masks: (B, I, I) in [0, 1], stretched to the square as the photo is.
        crop: the asset's crop.
        photos: the following parts, each of which shows the whole photo.
        padding: width and height of the padded square over those of the photo.

    Returns:
        (B, tokens of all parts, `PLACE_CHANNELS`) float32.
    """
    boxes = photo_boxes(masks)
    stretch = torch.stack([torch.full_like(boxes[:, 0], factor) for factor in padding], -1)  # (B, 2)
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = (boxes[:, 2:] - boxes[:, :2]) / stretch
    half = (sides.amax(1, keepdim=True) * (CROP_MARGIN / 2)).clamp(min=_SMALLEST_HALF) * stretch  # (B, 2)
    coarse = F.interpolate(masks[:, None].float(), size=(_MASK_SIZE, _MASK_SIZE), mode="area")
    special = _channels(middle[:, None], half, boxes[:, None], 1.0)  # (B, 1, C)
    parts = [special.expand(-1, crop.special, -1), _patches(crop.grid, half, middle, coarse)]
    for photo in photos:
        scale = stretch if photo.padded else torch.ones_like(half)
        parts.append(special.expand(-1, photo.special, -1))
        parts.append(_patches(photo.grid, scale, torch.zeros_like(middle), coarse))
    return torch.cat(parts, dim=1)


def _patches(grid: int, scale: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
    """Channels (B, grid^2, C) of a picture that covers ``offset`` +- ``scale`` (B, 2) of the photo."""
    places = grid_places(grid, mask.device) * scale[:, None] + offset[:, None]  # (B, G * G, 2)
    fine = grid_places(2 * grid, mask.device) * scale[:, None] + offset[:, None]
    seen = F.grid_sample(mask, fine.view(len(mask), 2 * grid, 2 * grid, 2), align_corners=False)
    shares = F.pixel_unshuffle(seen, 2).flatten(2).mT  # (B, G * G, 4)
    return _channels(places, scale, shares, 0.0)


def grid_places(count: int, device: torch.device) -> Tensor:
    """Middles (count^2, 2) of a grid over [-1, 1], x first, row by row."""
    line = (torch.arange(count, device=device, dtype=torch.float32) + 0.5) * (2 / count) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1).flatten(0, 1)


def place_code(places: Tensor) -> Tensor:
    """Places (..., 2) as 18 numbers: x and y, sine and cosine of pi 2^k x and pi 2^k y, k < 4."""
    return torch.cat([places, *_waves(places)], dim=-1)


def _waves(places: Tensor) -> tuple[Tensor, Tensor]:
    angles = torch.cat([math.pi * 2**k * places for k in range(_FREQUENCIES)], -1)
    return angles.sin(), angles.cos()


def _channels(places: Tensor, scale: Tensor, shares: Tensor, flag: float) -> Tensor:
    """(B, T, 2) places, (B, 2) half sizes, (B, T, 4) shares -> (B, T, `PLACE_CHANNELS`)."""
    sines, cosines = _waves(places)
    size = scale.log().mean(1)[:, None, None].expand(-1, places.shape[1], 1)
    return torch.cat([places, size, sines, cosines, shares, torch.full_like(size, flag)], -1)
