"""Object masks of a photo: from a label image to one cut-out and one mask per asset, and their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

AssetOrder = Literal["order", "smallest", "largest"]
"""Ascending label, or by mask area."""


@dataclass(frozen=True)
class AssetCutout:
    """One asset of a photo.

    Attributes:
        label: grey value of the asset in the label image.
        image: RGBA, the photo inside the mask, transparent black outside.
        mask: RGB, 255 inside and 0 outside.
        area: pixels of the mask.
    """

    label: int
    image: Image.Image
    mask: Image.Image
    area: int


def split_masks(photo: Image.Image, labels: Image.Image, order: AssetOrder = "order") -> list[AssetCutout]:
    """Cut every labelled asset out of a photo.

    Args:
        photo: the scene, any mode.
        labels: the same size; converted to 8-bit grey, each value above 0 is one asset.
        order: "order" by ascending label; "smallest" first, equal areas by ascending label; "largest" is the
            reverse of "smallest".

    Returns:
        At least one cut-out.

    Raises:
        ValueError: unknown order, sizes differ, or no pixel has a label.
    """
    if order not in ("order", "smallest", "largest"):
        raise ValueError(f"split_masks: order must be 'order', 'smallest' or 'largest', got {order!r}")
    if photo.size != labels.size:
        raise ValueError(
            f"split_masks: expected labels of the photo's size {photo.size}, got {labels.size}; "
            "save the label image at full size, without smoothing"
        )
    rgb, grey = np.asarray(photo.convert("RGB")), np.asarray(labels.convert("L"))
    cutouts = [_cut_out(rgb, grey == label, int(label)) for label in np.unique(grey[grey > 0])]
    if not cutouts:
        raise ValueError("split_masks: expected labels above 0, the label image is empty; mark the assets")
    if order == "order":
        return cutouts
    cutouts.sort(key=lambda cutout: cutout.area)  # stable: equal areas stay in ascending label
    return cutouts if order == "smallest" else cutouts[::-1]


def _cut_out(rgb: np.ndarray, inside: np.ndarray, label: int) -> AssetCutout:
    alpha = inside.astype(np.uint8) * 255
    rgba = np.dstack((rgb * inside[..., None], alpha))
    mask = np.dstack((alpha, alpha, alpha))
    return AssetCutout(label, Image.fromarray(rgba), Image.fromarray(mask), int(inside.sum()))


def mask_area(mask: Image.Image) -> int:
    """Pixels above 0 of a mask of any mode, counted once whatever its channels."""
    return int((np.asarray(mask.convert("L")) > 0).sum())


def order_by_area(areas: Sequence[int]) -> list[int]:
    """Indices from the largest area to the smallest, equal ones in given order; the first is the query."""
    return sorted(range(len(areas)), key=lambda index: -areas[index])


def inverse_order(order: Sequence[int]) -> list[int]:
    """The permutation that restores the caller's order: ``[reordered[i] for i in inverse_order(order)]``.

    Raises:
        ValueError: ``order`` is no permutation of 0, 1, ..., n - 1.
    """
    if sorted(order) != list(range(len(order))):
        raise ValueError(f"inverse_order: expected a permutation of 0..{len(order) - 1}, got {list(order)}")
    inverse = [0] * len(order)
    for position, index in enumerate(order):
        inverse[index] = position
    return inverse
