"""Masks as people and programs draw them: eroded, dilated, coarse, with holes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from scenegen.synthesis.pictures.looks import Draws

_SIDE = 512  # of the picture that lengths in pixels refer to
_COARSENESS = (4, 10, 24)  # pixels over which a border is moved or lost
_LEAST_KEPT, _MOST_KEPT = 0.4, 2.0  # pixels of a faulty mask over those of the true one
_CUTS = 3


def faulty_masks(masks: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Masks (K, H, H) bool, of which a part is drawn badly; one that would be lost stays as it is.

    A mask is blurred and cut at a level: above a half that erodes it, below it dilates it, and either way
    details are lost. The level wavers along the border. Then patches are taken out of some.
    """
    draws = Draws(len(masks), generator)
    shape = masks.shape[-2:]
    blurred = _blurred(masks.float()[:, None], draws.choice(len(_COARSENESS)))
    waver = F.interpolate(draws.uniform(-1, 1, 1, 24, 24), size=shape, mode="bilinear", align_corners=False)
    level = draws.uniform(0.15, 0.85, 1, 1, 1) + waver * draws.uniform(0.0, 0.5, 1, 1, 1)
    faulty = (blurred > level.clamp(0.05, 0.95))[:, 0]
    faulty = faulty & ~_patches(masks, draws)
    pixels, kept = masks.sum((1, 2)), faulty.sum((1, 2))
    usable = (kept > _LEAST_KEPT * pixels) & (kept < _MOST_KEPT * pixels)
    chosen = usable & draws.happens(probability)
    return torch.where(chosen[:, None, None], faulty, masks)


def _blurred(masks: Tensor, coarseness: Tensor) -> Tensor:
    """Masks (K, 1, H, H) as means over squares, whose sides are chosen by number (K,)."""
    scale = masks.shape[-1] / _SIDE
    blurred = masks
    for number, pixels in enumerate(_COARSENESS):
        side = max(1, round(masks.shape[-1] / max(1.0, pixels * scale)))
        coarse = F.adaptive_avg_pool2d(masks, side)
        smooth = F.interpolate(coarse, size=masks.shape[-2:], mode="bilinear", align_corners=False)
        blurred = torch.where((coarseness == number)[:, None, None, None], smooth, blurred)
    return blurred


def _patches(masks: Tensor, draws: Draws) -> Tensor:
    """Ellipses (K, H, H) bool within the boxes of half of the masks."""
    size = masks.shape[-1]
    steps = torch.arange(size, device=masks.device)
    extents = []
    for axis in (1, 2):
        seen = masks.any(axis)
        low = torch.where(seen, steps, size).amin(1)
        extents.append((low, torch.where(seen, steps, 0).amax(1) - low + 1))
    (left, width), (top, height) = extents  # any() over rows leaves columns
    patches = torch.zeros_like(masks)
    with_patches = draws.happens(0.5)
    for _ in range(_CUTS):
        x = left + width * draws.uniform()
        y = top + height * draws.uniform()
        across = (steps - x[:, None]) / (width * draws.uniform(0.04, 0.22))[:, None]
        down = (steps - y[:, None]) / (height * draws.uniform(0.04, 0.22))[:, None]
        drawn = with_patches & draws.happens(0.6)
        patches |= (across.square()[:, None] + down.square()[:, :, None] < 1) & drawn[:, None, None]
    return patches
