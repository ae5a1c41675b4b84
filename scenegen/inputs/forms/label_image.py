"""One label image: one grey value, palette index or colour per object, black for the background."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from scenegen.inputs.form import Form, check_background
from scenegen.inputs.image_files import SceneInputError, open_image, size_text
from scenegen.inputs.label_image import read_label_image
from scenegen.inputs.names import LABELS_NAME
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_images import SceneImages

logger = logging.getLogger(__name__)


def _read(photo: Image.Image, files: Sequence[Path], options: ReadOptions) -> SceneImages:
    """Split a label image into objects, numbered in ascending order of their labels."""
    (path,) = files
    image = open_image(path, any_depth=True)
    if image.size != photo.size:
        raise SceneInputError(
            f"{path}: expected labels of {size_text(photo)} like the photo, "
            f"got {size_text(image)}; save the labels at full photo size"
        )
    labels = read_label_image(image, where=path, max_objects=options.max_objects, min_area=options.min_area)
    if labels.cleaned or labels.dropped:
        logger.info("%s: %s", path, labels.summary)
    masks = labels.masks
    for mask in masks:
        check_background(path, mask)
    return SceneImages.from_masks(photo, masks)


FORM = Form(title=LABELS_NAME, claims=lambda name: name == LABELS_NAME, read=_read)
