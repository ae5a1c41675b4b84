"""One COCO file: polygons or run lengths of a photo's objects, as annotation programs and SAM write them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from safe_files.json_reader import read_json
from safe_files.regular import UnreadableFile
from scenegen.inputs.coco_masks import SegmentationError, decode_segmentation
from scenegen.inputs.form import Form
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.objects import FoundObject, usable_objects
from scenegen.inputs.photos import ScenePhoto
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_images import SceneImages

logger = logging.getLogger(__name__)

_NAMES = ("coco.json", "annotations.json", "_annotations.coco.json", "masks.json", "instances.json")


def _read(photo: ScenePhoto, files: Sequence[Path], options: ReadOptions) -> SceneImages:
    """Read the objects of the photo, numbered in the order of their annotations."""
    path = files[0]
    try:
        raw = read_json(path)
    except (OSError, UnreadableFile) as error:
        raise SceneInputError(f"{path}: {error}; export the annotations again as COCO JSON") from error
    annotations = _annotations(raw, path)
    if len(annotations) > options.max_objects:
        raise SceneInputError(
            f"{path}: expected at most {options.max_objects} objects, found {len(annotations)}; split the "
            "scene, or raise --max-objects"
        )
    found = []
    for number, annotation in enumerate(annotations):
        where = f"{path}: annotation {number}"
        found.append(FoundObject(number, where, _mask(annotation["segmentation"], photo, where)))
    return usable_objects(photo.image, found, options, path)


def _annotations(raw: Any, where: Path) -> list[Mapping[str, Any]]:
    """The annotations of the one photo of a file, or of the bare list of SAM's automatic mask generator."""
    annotations = raw.get("annotations") if isinstance(raw, Mapping) else raw
    if not isinstance(annotations, list) or not all(
        isinstance(each, Mapping) and each.get("segmentation") for each in annotations
    ):
        raise SceneInputError(
            f'{where}: expected COCO annotations, a list of {{"segmentation": ...}}, got something else; '
            "export the masks as COCO JSON, not boxes or key points alone"
        )
    if not annotations:
        raise SceneInputError(f"{where}: expected at least one annotation, got none; mark the objects")
    photos = {str(each.get("image_id")) for each in annotations}
    if len(photos) > 1:
        raise SceneInputError(
            f"{where}: expected annotations of one photo, got those of {len(photos)}; export one file a photo"
        )
    return annotations


def _mask(segmentation: Any, photo: ScenePhoto, where: str) -> np.ndarray:
    """The mask (H, W) bool on the upright photo; run lengths may be for the file before it is turned."""
    shape = photo.shape
    if isinstance(segmentation, Mapping):
        shape = _size_of_runs(segmentation, photo, where)
    elif isinstance(segmentation, list):
        _check_inside(segmentation, photo, where)
    try:
        mask = decode_segmentation(segmentation, *shape)
    except SegmentationError as error:
        raise SceneInputError(f"{where}: {error}; export it again as COCO JSON") from error
    return np.asarray(photo.lay_on(Path(where), Image.fromarray(mask), "a mask"))


def _size_of_runs(segmentation: Mapping[str, Any], photo: ScenePhoto, where: str) -> tuple[int, int]:
    """The height and width that run lengths are for: before anything is decoded, one of the photo's."""
    size = segmentation.get("size", list(photo.shape))
    is_whole = isinstance(size, list) and all(type(side) is int for side in size)  # 40.0 == 40, True == 1
    if is_whole and (size == list(photo.shape) or photo.is_unturned(tuple(size))):
        return tuple(size)
    raise SceneInputError(
        f"{where}: expected run lengths of the size {list(photo.shape)} [height, width] like the photo, got "
        f"{size!r:.60}; export it for the photo at full size"
    )


def _check_inside(polygons: Sequence[Any], photo: ScenePhoto, where: str) -> None:
    """Refuse polygons of a larger photo, which would be cut off without a word."""
    width, height = photo.size
    for polygon in polygons:
        numbers = (
            [value for value in polygon if isinstance(value, int | float)]
            if isinstance(polygon, list)
            else []
        )
        right, bottom = max(numbers[::2], default=0), max(numbers[1::2], default=0)
        if right > width + 1 or bottom > height + 1:
            raise SceneInputError(
                f"{where}: expected a polygon inside the photo, {width}x{height}, got one up to {right:g}, "
                f"{bottom:g}; export it for the photo at full size"
            )


FORM = Form(
    title=_NAMES[0],
    claims=lambda name: name.lower() in _NAMES,
    read=_read,
    is_one_file=True,
    suffixes=(".json",),
)
