"""Cut-outs: pictures of one object alone, with its outline in their alpha."""

from __future__ import annotations

import numpy as np
from PIL import Image

OPAQUE_ALPHA = 204
"""Pixels of a cut-out above this alpha are the object: 0.8 of full opacity."""


def cut_out(photo: Image.Image, mask: np.ndarray) -> Image.Image:
    """The photo inside a mask (H, W) bool as RGBA, transparent black outside."""
    rgba = np.dstack([np.asarray(photo.convert("RGB")), np.full(mask.shape, 255, np.uint8)])
    return Image.fromarray(rgba * mask[..., None].astype(np.uint8))


def alpha_of(image: Image.Image) -> np.ndarray:
    """Opacity (H, W) uint8."""
    return np.asarray(image.convert("RGBA"))[..., 3]


def has_alpha(image: Image.Image) -> bool:
    """Whether any pixel is not opaque."""
    return bool(alpha_of(image).min() < 255)
