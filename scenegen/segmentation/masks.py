"""The masks of a photo's objects, found in its boxes or without a hint: in memory, and as a label image."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image

from scenegen.inputs.boxes import read_boxes
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import is_as_written, label_map, write_labels
from scenegen.inputs.layout import InputPhoto
from scenegen.inputs.names import BOXES_NAME, LABELS_NAME
from scenegen.inputs.photos import open_photo
from scenegen.segmentation.segmenter import Segmenter

logger = logging.getLogger(__name__)


def find_masks(segmenter: Segmenter, photo: Image.Image, boxes: np.ndarray | None = None) -> np.ndarray:
    """Find the masks of a photo's objects, as `SceneImages.from_masks` takes them.

    Args:
        segmenter: finds them.
        photo: RGB.
        boxes: (N, 4) pixels: left, top, right, bottom, one for each object; None finds whole objects without
            a hint.

    Returns:
        (N, H, W) bool: none is empty, and none overlaps another. With boxes there is one for each, in their
        order.

    Raises:
        SceneInputError: there is no box, a box is not inside the photo or holds no object of its own, or
            without boxes no object is found.
    """
    labels = find_labels(segmenter, photo, boxes)
    return labels == np.unique(labels[labels > 0])[:, None, None]


def find_labels(
    segmenter: Segmenter, photo: Image.Image, boxes: np.ndarray | None = None, where: Path | str = "photo"
) -> np.ndarray:
    """Find the objects of a photo, each pixel given to one of them.

    Args:
        segmenter, photo, boxes: see `find_masks`.
        where: begins messages.

    Returns:
        (H, W) uint8, 0 on the background and k + 1 on object k. Without boxes a label may be missing, where
        smaller objects cover all of what was found.

    Raises:
        SceneInputError: see `find_masks`.
    """
    if boxes is not None:
        masks = segmenter.segment_boxes(photo, boxes)
        labels = label_map(masks)
        _check_every_box(labels, masks, where)
        return labels
    labels = label_map(segmenter.segment_everything(photo))
    if not labels.any():
        raise SceneInputError(
            f"{where}: expected objects that can be found without a hint, found none; draw boxes "
            f"({BOXES_NAME}, --boxes) or masks ({LABELS_NAME}, --masks)"
        )
    return labels


def write_found_labels(segmenter: Segmenter, layout: InputPhoto, folder: Path) -> None:
    """Find the masks of a photo on disk, in its boxes or automatically, and write its label image.

    A label image that a person corrected, or put there, stays and counts.

    Args:
        segmenter: finds them.
        layout: of the photo.
        folder: of the scene's found masks; the image goes to ``layout.found_labels(folder)``, object k as
            value k + 1.

    Raises:
        SceneInputError: photo or boxes are faulty, or no object is found.
        OSError: the disk refuses.
    """
    target = layout.found_labels(folder)
    if target.exists() and not is_as_written(target):
        logger.warning(
            "%s: changed by hand, so it is used as it is; delete it to find the masks again", target
        )
        return
    photo = open_photo(layout.photo)
    if layout.boxes is not None:
        labels = find_labels(segmenter, photo, read_boxes(layout.boxes, photo.size), layout.boxes)
    elif layout.view is not None:
        raise SceneInputError(
            f"{layout.place}: expected masks or {BOXES_NAME}, found neither; masks that are found "
            "automatically do not tell which objects of several photos are the same"
        )
    else:
        labels = find_labels(segmenter, photo, where=layout.photo)
    write_labels(labels, target)


def _check_every_box(labels: np.ndarray, masks: np.ndarray, where: Path | str) -> None:
    """Make sure that every box gave an object, so that objects keep the numbers of their boxes."""
    for index, mask in enumerate(masks):
        if not mask.any():
            raise SceneInputError(
                f"{where}: box {index}: expected an object in the box, found none; draw the box closely "
                "around one object"
            )
        if not (labels == index + 1).any():
            raise SceneInputError(
                f"{where}: box {index}: expected an object of its own, found only what other boxes hold; "
                "remove the box or draw it closely around another object"
            )
