"""One label image: one grey value, palette index or colour per object, black for the background."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from scenegen.inputs.form import Form, check_background
from scenegen.inputs.image_files import SceneInputError, open_image, size_text
from scenegen.inputs.label_image import read_labels
from scenegen.inputs.limits import MAX_OBJECTS
from scenegen.inputs.names import LABELS_NAME
from scenegen.inputs.scene_images import SceneImages


def _read(photo: Image.Image, files: Sequence[Path]) -> SceneImages:
    """Split a label image into objects, numbered in ascending order of their labels."""
    (path,) = files
    image = open_image(path)
    if image.size != photo.size:
        raise SceneInputError(
            f"{path}: expected labels of {size_text(photo)} like the photo, "
            f"got {size_text(image)}; save the labels at full photo size"
        )
    labels = read_labels(image)
    values = np.unique(labels[labels > 0])
    if len(values) == 0:
        raise SceneInputError(
            f"{path}: expected a label above 0 for each object, all pixels are 0; draw the objects"
        )
    if len(values) > MAX_OBJECTS:
        raise SceneInputError(
            f"{path}: expected at most {MAX_OBJECTS} labels, got {len(values)} values; "
            "save the labels without smoothing, as a PNG"
        )
    masks = [labels == value for value in values]
    for mask in masks:
        check_background(path, mask)
    return SceneImages.from_masks(photo, masks)


FORM = Form(title=LABELS_NAME, claims=lambda name: name == LABELS_NAME, read=_read)
