"""One array of masks: (N, H, W), above 0 on each object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from safe_files.arrays import read_array_file
from safe_files.regular import UnreadableFile
from scenegen.inputs.form import Form, check_background
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.names import MASKS_NAME
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_images import SceneImages


def _read(photo: Image.Image, files: Sequence[Path], options: ReadOptions) -> SceneImages:
    """Read one mask per object, numbered as in the array."""
    (path,) = files
    masks = _read_numbers(path)
    if masks.ndim != 3 or masks.shape[1:] != (photo.height, photo.width) or masks.dtype.kind not in "biuf":
        raise SceneInputError(
            f"{path}: expected masks (N, {photo.height}, {photo.width}) like the photo, got {masks.shape} "
            f"{masks.dtype}; save one mask per object at full photo size"
        )
    masks = masks > 0
    if empty := np.flatnonzero(~masks.any(axis=(1, 2))).tolist():
        raise SceneInputError(f"{path}: expected pixels above 0 in every mask, masks {empty} are empty")
    if not len(masks):
        raise SceneInputError(f"{path}: expected at least one mask, got none; mark the objects")
    for index, mask in enumerate(masks):
        check_background(f"{path}: mask {index}", mask)
    return SceneImages.from_masks(photo, masks)


def _read_numbers(path: Path) -> np.ndarray:
    try:
        return read_array_file(path)
    except (OSError, UnreadableFile) as error:
        raise SceneInputError(
            f"{path}: expected an array file of numbers, reading stopped ({error}); save it with numpy.save"
        ) from error


FORM = Form(
    title=MASKS_NAME,
    claims=lambda name: name == MASKS_NAME,
    read=_read,
    suffixes=(Path(MASKS_NAME).suffix,),
)
