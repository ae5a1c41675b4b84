"""Masks as one label image: what inference writes for the user to see and correct, and what it reads."""

from __future__ import annotations

import colorsys
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from safe_files.pictures import open_picture
from trellis_modules.files import atomic_write

_PUBLISHED = (  # label 1 and on, as in the published demo
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255), (128, 0, 0),
    (0, 128, 0), (0, 0, 128), (128, 128, 0), (128, 0, 128), (0, 128, 128), (64, 0, 0), (0, 64, 0), (0, 0, 64),
    (64, 64, 0), (64, 0, 64), (0, 64, 64), (192, 192, 192), (128, 128, 128), (255, 165, 0), (75, 0, 130),
    (238, 130, 238),
)  # fmt: skip
_MORE = 64 - len(_PUBLISHED)
_GOLDEN_RATIO = 0.618033988749895  # steps of the hue: neighbours differ, none returns early
_SATURATION, _LEVELS = 0.8, (0.75, 1.0, 0.9)  # no colour within 16 levels of another
_NOTE = "scenegen labels sha256"
_CODE = np.array([1 << 16, 1 << 8, 1])


def _palette() -> np.ndarray:
    """Colours (65, 3) uint8 of the labels: black, the published ones, then more that differ from them."""
    more = [
        colorsys.hsv_to_rgb(index * _GOLDEN_RATIO % 1.0, _SATURATION, _LEVELS[index % len(_LEVELS)])
        for index in range(_MORE)
    ]
    return np.concatenate([[(0, 0, 0)], _PUBLISHED, np.rint(255 * np.array(more))]).astype(np.uint8)


PALETTE = _palette()


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

    The file notes a digest of the labels, by which `is_as_written` knows it again.

    Args:
        labels: (H, W) uint8, below ``len(PALETTE)``.
        path: its folder is made where it is missing.

    Raises:
        OSError: the disk refuses.
    """
    image = Image.fromarray(labels)
    image.putpalette(PALETTE.tobytes())
    notes = PngInfo()
    notes.add_text(_NOTE, _digest(labels))
    with atomic_write(path) as temporary:  # half a file would count as one that a person changed
        image.save(temporary, format="PNG", pnginfo=notes)


def is_as_written(path: Path) -> bool:
    """Whether `write_labels` wrote this file and nobody changed its labels since."""
    try:
        with open_picture(path) as image:
            return image.mode == "P" and image.info.get(_NOTE) == _digest(np.asarray(image))
    except (OSError, ValueError):  # whatever it is, it is not ours
        return False


def _digest(labels: np.ndarray) -> str:
    return hashlib.sha256(repr(labels.shape).encode("ascii") + labels.tobytes()).hexdigest()


def read_labels(image: Image.Image) -> np.ndarray:
    """Labels of an image of any 8-bit mode.

    Args:
        image: palette index or grey value as label; or, as paint programs save it, colours: those of
            `PALETTE` are its labels, every other one is a label above them. Black is the background.

    Returns:
        (H, W) integers, 0 on the background; their order is that of the objects.
    """
    if image.mode in ("P", "L"):
        return np.asarray(image)
    rgb = np.asarray(image.convert("RGB"))
    if (rgb == rgb[..., :1]).all():
        return rgb[..., 0]
    codes, known = rgb @ _CODE, PALETTE @ _CODE
    order = np.argsort(known)
    nearest = order[np.searchsorted(known[order], codes).clip(max=len(known) - 1)]
    return np.where(known[nearest] == codes, nearest, len(known) + codes)
