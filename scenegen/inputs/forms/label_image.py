"""One label image: one grey value, palette index or colour per object, black for the background."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from scenegen.inputs.form import Form
from scenegen.inputs.image_files import open_image
from scenegen.inputs.label_image import read_label_image
from scenegen.inputs.names import LABELS_NAME, is_labels_name
from scenegen.inputs.objects import FoundObject, usable_objects
from scenegen.inputs.photos import ScenePhoto
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_images import SceneImages

logger = logging.getLogger(__name__)


def _read(photo: ScenePhoto, files: Sequence[Path], options: ReadOptions) -> SceneImages:
    """Split a label image into objects, numbered in ascending order of their labels."""
    path = files[0]
    image = photo.lay_on(path, open_image(path), "labels")
    labels = read_label_image(image, where=path, max_objects=options.max_objects, min_area=options.min_area)
    if labels.cleaned or labels.dropped:
        logger.info("%s: %s", path, labels.summary)
    found = [
        FoundObject(number, f"{path}: label {value}", mask)
        for number, (value, mask) in enumerate(zip(labels.values, labels.masks, strict=True))
    ]
    return usable_objects(photo.image, found, options, path)


FORM = Form(title=LABELS_NAME, claims=is_labels_name, read=_read, is_one_file=True)
