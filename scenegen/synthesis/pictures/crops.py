"""Crops and small pictures of rendered batches, cut as `scenegen.conditioning.image_preparation` cuts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from scenegen.conditioning.image_preparation import CROP_MARGIN
from scenegen.conditioning.patch_places import mask_boxes

_SUPERSAMPLE = 2  # samples per pixel and axis of a crop, averaged: crops mostly shrink the picture


def crop_windows(masks: Tensor) -> Tensor:
    """Middle x and y and half side (K, 3), in pixels, of the crops of masks (K, H, H) bool.

    Crops are squares of 1.2 times the longer side of a mask's box.
    """
    boxes = mask_boxes(masks) + 0.5
    half = (boxes[:, 2:] - boxes[:, :2]).amax(1, keepdim=True).clamp(min=4.0) * CROP_MARGIN / 2
    return torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, half], -1)


def crop_objects(
    pictures: Tensor, masks: Tensor, image: Tensor, size: int, shown: Tensor | None = None
) -> Tensor:
    """Crops on black, see `crop_windows`.

    Args:
        pictures: (S, C, H, H).
        masks: (K, H, H) bool.
        image: (K,) int64, the picture of each mask.
        size: pixels per edge of the crops.
        shown: (K, H, H) bool, the pixels that are not black; by default those of the masks.

    Returns:
        (K, C, size, size).
    """
    pixels = pictures.shape[-1]
    centre, half = crop_windows(masks).split((2, 1), -1)
    fine = size * _SUPERSAMPLE
    steps = (torch.arange(fine, device=pictures.device) + 0.5) / fine * 2 - 1
    axes = (centre[:, :, None] + half[:, None] * steps) / pixels * 2 - 1  # (K, 2, fine)
    grid = torch.stack([axes[:, 0, None].expand(-1, fine, -1), axes[:, 1, :, None].expand(-1, -1, fine)], -1)
    cut_out = pictures[image] * (masks if shown is None else shown)[:, None]
    return F.avg_pool2d(F.grid_sample(cut_out, grid, align_corners=False), _SUPERSAMPLE)


def shrink(pictures: Tensor, size: int) -> Tensor:
    """Resize (B, C, H, H) to ``size`` with antialiasing."""
    return F.interpolate(pictures, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
