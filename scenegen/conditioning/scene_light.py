"""What a photo tells about the light that falls on an object.

The colours of a crop are those of the object in the light of its scene. How much of them is light, the crop
alone does not say: white in the shade is grey in the sun. The rest of the photo has things of many colours in
the same light, and its brightest tones are near those of white things.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

PHOTO_BANDS = ((0.0, 1.0), (0.0, 0.05), (0.45, 0.55), (0.95, 1.0))
"""Ranges of a photo's pixels, sorted from dark to bright, whose mean colours are its tones."""

OBJECT_BANDS = ((0.0, 1.0), (0.0, 0.1), (0.45, 0.55), (0.9, 1.0))
"""The same of the pixels of an object."""

LIGHT_TONES = 3 * (len(PHOTO_BANDS) + len(OBJECT_BANDS) + 1)
"""Numbers that `light_tones` gives for an object."""

COLOUR_SPREAD = 0.25
"""Differences from middle grey are divided by it, and so about as large as normalised tokens."""

_SIZE = 112  # pixels a side from which tones are taken
_AROUND = 9  # pixels, of these, that the surroundings of an object reach, both sides together


def light_tones(photos: Tensor, masks: Tensor) -> Tensor:
    """Tones of photos and of the objects in them, for each object.

    Args:
        photos: (S, 3, I, J) in [0, 1].
        masks: (S * N, 1, I, J), those of one photo after those of another; above 0.5 on the object. One that
            vanishes at the size at which tones are taken is told as the whole photo.

    Returns:
        (S * N, `LIGHT_TONES`): mean colours of the bands of the photo, of the object, and of what surrounds
        the object in the photo; middle grey is 0.

    Raises:
        ValueError: the number of photos does not divide that of masks.
    """
    if not len(photos) or len(masks) % len(photos):
        raise ValueError(
            f"light_tones: expected as many masks for each of {len(photos)} photos, got {len(masks)} masks"
        )
    small = F.adaptive_avg_pool2d(photos.float(), _SIZE)
    inside = (F.adaptive_avg_pool2d(masks.float(), _SIZE) > 0.5).float()
    around = F.max_pool2d(inside, _AROUND, 1, _AROUND // 2) - inside
    each = len(masks) // len(photos)
    pixels, own, ring = small.flatten(2), _or_all(inside.flatten(1)), _or_all(around.flatten(1))
    own_pixels = pixels.repeat_interleave(each, 0)
    tones = [
        _band_means(pixels, torch.ones_like(pixels[:, 0]), PHOTO_BANDS).repeat_interleave(each, 0),
        _band_means(own_pixels, own, OBJECT_BANDS),
        _band_means(own_pixels, ring, ((0.0, 1.0),)),
    ]
    return (torch.cat(tones, 1) - 0.5) / COLOUR_SPREAD


def append_light(tokens: Tensor, tones: Tensor) -> Tensor:
    """Add the tones (B, `LIGHT_TONES`) of objects to each of their tokens (B, T, C): (B, T, C + tones)."""
    return torch.cat([tokens, tones[:, None].expand(-1, tokens.shape[1], -1).to(tokens)], dim=2)


def _or_all(chosen: Tensor) -> Tensor:
    """Weights (K, P) of pixels; rows without a pixel choose all."""
    return torch.where(chosen.any(1, keepdim=True), chosen, 1.0)


def _band_means(pixels: Tensor, chosen: Tensor, bands: Sequence[tuple[float, float]]) -> Tensor:
    """Mean colours (K, 3 * bands) of the chosen pixels of pictures, sorted from dark to bright.

    Args:
        pixels: (K, 3, P).
        chosen: (K, P), 1 for pixels that count and 0 for others, at least one.
        bands: from which to which share of the pixels.
    """
    order = pixels.mean(1).argsort(dim=1, stable=True)
    weight = chosen.gather(1, order)
    ordered = pixels.gather(2, order[:, None].expand(-1, 3, -1))
    rank, count = weight.cumsum(1), weight.sum(1, keepdim=True)
    means = []
    for low, high in bands:
        last = torch.maximum((high * count).ceil(), torch.ones_like(count))
        first = torch.minimum((low * count).floor(), last - 1)
        taken = weight * ((rank > first) & (rank <= last))
        means.append((ordered * taken[:, None]).sum(2) / taken.sum(1, keepdim=True))
    return torch.cat(means, 1)
