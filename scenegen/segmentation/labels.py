"""Masks as one label image: what inference writes for the user to see and correct, and reads."""

from __future__ import annotations

import colorsys
from pathlib import Path

import numpy as np
from PIL import Image

_COLOURS = 256
_GOLDEN_RATIO = 0.618033988749895  # steps of the hue: neighbours differ, none returns early
_LEVELS = (1.0, 0.7, 0.45)


def label_map(masks: np.ndarray) -> np.ndarray:
    """Give each pixel to one object: where masks overlap, to the smallest, which as a rule stands in front.

    Args:
        masks: (N, H, W) bool, N < 256.

    Returns:
        (H, W) uint8: k + 1 on object k, 0 on the background. A label is missing where smaller objects cover
        all of a mask, or where it is empty.
    """
    labels = np.zeros(masks.shape[1:], np.uint8)
    areas = masks.sum(axis=(1, 2))
    for index in np.argsort(-areas, kind="stable"):
        labels[masks[index]] = index + 1
    return labels


def write_labels(labels: np.ndarray, path: Path) -> None:
    """Save labels as a palette PNG: pixel values are the labels, the colours tell them apart.

    Args:
        labels: (H, W) uint8.
        path: its folder is made where it is missing.

    Raises:
        OSError: the disk refuses.
    """
    image = Image.fromarray(labels, mode="L")
    image.putpalette(_palette())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _palette() -> bytes:
    """RGB of every label: black, then saturated colours."""
    colours = [
        colorsys.hsv_to_rgb(index * _GOLDEN_RATIO % 1.0, 0.85, _LEVELS[index % len(_LEVELS)])
        for index in range(_COLOURS - 1)
    ]
    return bytes([0, 0, 0, *(round(255 * value) for colour in colours for value in colour)])
