"""The masks of a photo's objects, found by prompts or without a hint: in memory, and as a label image."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from scenegen.hub.digest import file_sha256
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import is_as_written, label_map, noted_source, write_labels
from scenegen.inputs.layout import InputPhoto
from scenegen.inputs.limits import MAX_OBJECTS
from scenegen.inputs.names import BOXES_NAME, LABELS_NAME
from scenegen.inputs.photos import open_photo
from scenegen.segmentation.prompts import ObjectPrompt, read_prompts
from scenegen.segmentation.segmenter import Segmenter

logger = logging.getLogger(__name__)

Detect = Callable[[Image.Image], list[ObjectPrompt]]
"""Finds prompts of the objects in a photo, such as `scenegen.segmentation.text.detect` with its names."""

Priority = Literal["smallest", "score", "order"]
"""Which mask a pixel of several goes to: the smallest, the one of the best score, or the last one."""


def merge_masks(
    masks: np.ndarray, priority: Priority = "smallest", scores: np.ndarray | Sequence[float] | None = None
) -> np.ndarray:
    """Give each pixel to one object.

    Args:
        masks: (N, H, W) bool, N < 256; in the order in which they were drawn.
        priority: see `Priority`. A later mask counts as drawn over an earlier one.
        scores: (N,), for "score".

    Returns:
        (H, W) uint8: k + 1 on object k, 0 on the background. A label is missing where others cover all of a
        mask, or where it is empty.

    Raises:
        ValueError: an unknown priority, or "score" without a finite score for each mask.
    """
    if priority not in get_args(Priority):
        raise ValueError(f"merge_masks: expected a priority of {get_args(Priority)}, got {priority!r}")
    if priority == "smallest":
        return label_map(masks)
    order = range(len(masks))
    if priority == "score":
        if scores is None or len(scores) != len(masks) or not np.isfinite(scores).all():
            raise ValueError(
                f"merge_masks: expected a score for each of {len(masks)} masks, got {scores}; choose another "
                "priority where the segmenter gives none"
            )
        order = np.argsort(scores, kind="stable")
    labels = np.zeros(masks.shape[1:], np.uint8)
    for index in order:
        labels[masks[index]] = index + 1
    return labels


def find_masks(
    segmenter: Segmenter, photo: Image.Image, prompts: np.ndarray | Sequence[ObjectPrompt] | None = None
) -> np.ndarray:
    """Find the masks of a photo's objects, as `SceneImages.from_masks` takes them.

    Args:
        segmenter: finds them.
        photo: RGB.
        prompts: one for each object: prompts, or boxes (N, 4) in pixels: left, top, right, bottom; None finds
            whole objects without a hint.

    Returns:
        (N, H, W) bool: none is empty, and none overlaps another. With prompts there is one for each, in their
        order.

    Raises:
        SceneInputError: there is no prompt, one is not inside the photo or shows no object of its own, or
            without prompts no object is found.
    """
    labels = find_labels(segmenter, photo, prompts)
    return labels == np.unique(labels[labels > 0])[:, None, None]


def find_labels(
    segmenter: Segmenter,
    photo: Image.Image,
    prompts: np.ndarray | Sequence[ObjectPrompt] | None = None,
    where: Path | str = "photo",
) -> np.ndarray:
    """Find the objects of a photo, each pixel given to one of them.

    Args:
        segmenter, photo, prompts: see `find_masks`.
        where: begins messages.

    Returns:
        (H, W) uint8, 0 on the background and k + 1 on object k. Without prompts a label may be missing, where
        smaller objects cover all of what was found.

    Raises:
        SceneInputError: see `find_masks`.
    """
    if prompts is not None:
        find = segmenter.segment_boxes if isinstance(prompts, np.ndarray) else segmenter.segment_prompts
        masks = find(photo, prompts)
        labels = label_map(masks)
        _check_every_box(labels, masks, where)
        return labels
    try:
        labels = label_map(segmenter.segment_everything(photo))
    except SceneInputError as error:
        raise SceneInputError(f"{where}: {error}") from error
    if not labels.any():
        raise SceneInputError(
            f"{where}: expected objects that can be found without a hint, found none; draw boxes "
            f"({BOXES_NAME}, --boxes) or masks ({LABELS_NAME}, --masks)"
        )
    return labels


def write_found_labels(
    segmenter: Segmenter, layout: InputPhoto, folder: Path, detect: Detect | None = None
) -> None:
    """Find the masks of a photo on disk, in its boxes or automatically, and write its label image.

    A label image that a person corrected, or put there, stays and counts.

    Args:
        segmenter: finds them.
        layout: of the photo.
        folder: of the scene's found masks; the image goes to ``layout.found_labels(folder)``, object k as
            value k + 1.
        detect: finds prompts in a photo without boxes; None lets the segmenter find whole objects.

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
        labels = find_labels(segmenter, photo, read_prompts(layout.boxes, photo.size), layout.boxes)
    elif layout.view is not None:
        raise SceneInputError(
            f"{layout.place}: expected masks or {BOXES_NAME}, found neither; masks that are found "
            "automatically do not tell which objects of several photos are the same"
        )
    elif detect is not None:
        labels = find_labels(segmenter, photo, _detected(detect, photo, layout.photo), layout.photo)
    else:
        labels = find_labels(segmenter, photo, where=layout.photo)
    write_labels(labels, target, _source(layout))


def is_of_another_photo(layout: InputPhoto, folder: Path) -> bool:
    """Whether masks that were found in another photo or other boxes are there, as they were written.

    Args:
        layout: of the photo.
        folder: of the scene's found masks.

    Raises:
        OSError, UnreadableFile: photo or boxes cannot be read.
    """
    target = layout.found_labels(folder)
    noted = noted_source(target) if target.is_file() and is_as_written(target) else None
    return noted is not None and noted != _source(layout)


def _source(layout: InputPhoto) -> str:
    """Digest of what masks are found in: a photo, and its boxes."""
    parts = [file_sha256(path) for path in (layout.photo, layout.boxes) if path is not None]
    return hashlib.sha256(" ".join(parts).encode("ascii")).hexdigest()


def _detected(detect: Detect, photo: Image.Image, where: Path) -> list[ObjectPrompt]:
    if not (found := detect(photo)):
        raise SceneInputError(
            f"{where}: expected objects of the given names, found none; use other names, or draw boxes "
            f"({BOXES_NAME}, --boxes)"
        )
    logger.info("%s: found %s", where, ", ".join(prompt.name for prompt in found))
    return found[:MAX_OBJECTS]


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
