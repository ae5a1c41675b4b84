"""From a photo in a scene's input to the label image that generation reads."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from scenegen.inputs.boxes import read_boxes
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import is_as_written, label_map, write_labels
from scenegen.inputs.scene_folder import BOXES_NAME, PhotoWithoutMasks, open_photo
from scenegen.segmentation.segmenter import Segmenter

logger = logging.getLogger(__name__)


def find_masks(segmenter: Segmenter, source: PhotoWithoutMasks, folder: Path) -> None:
    """Find the masks of a photo, in its boxes or automatically, and write its label image.

    A label image that a person corrected, or put there, stays and counts.

    Args:
        segmenter: finds them.
        source: the photo.
        folder: of found masks; the image goes to ``folder / source.labels``, object k as value k + 1.

    Raises:
        SceneInputError: photo or boxes are faulty, or no object is found.
        OSError: the disk refuses.
    """
    target = folder / source.labels
    if target.exists() and not is_as_written(target):
        logger.warning(
            "%s: changed by hand, so it is used as it is; delete it to find the masks again", target
        )
        return
    photo = open_photo(source.path)
    if source.boxes is not None:
        masks = segmenter.segment_boxes(photo, read_boxes(source.boxes, photo.size))
        labels = label_map(masks)
        _check_every_box(labels, masks, source.boxes)
    elif source.view is not None:
        raise SceneInputError(
            f"{source.path.parent}: expected masks or {BOXES_NAME}, found neither; masks that are found "
            "automatically do not tell which objects of several photos are the same"
        )
    else:
        labels = label_map(segmenter.segment_everything(photo))
        if not labels.any():
            raise SceneInputError(
                f"{source.path}: expected objects that can be found without a hint, found none; draw boxes "
                f"({BOXES_NAME}, --boxes) or masks (labels.png, --masks)"
            )
    write_labels(labels, target)


def _check_every_box(labels: np.ndarray, masks: np.ndarray, boxes: Path) -> None:
    """Make sure that every box gave an object, so that objects keep the numbers of their boxes."""
    for index, mask in enumerate(masks):
        if not mask.any():
            raise SceneInputError(
                f"{boxes}: box {index}: expected an object in the box, found none; draw the box closely "
                "around one object"
            )
        if not (labels == index + 1).any():
            raise SceneInputError(
                f"{boxes}: box {index}: expected an object of its own, found only what other boxes hold; "
                "remove the box or draw it closely around another object"
            )
