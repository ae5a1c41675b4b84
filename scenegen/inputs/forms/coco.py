"""One COCO file: polygons or run lengths of a photo's objects, as annotation programs and SAM write them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from safe_files.json_reader import read_json
from safe_files.regular import UnreadableFile
from scenegen.inputs.coco_masks import annotations_of, mask_of
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
    annotations = annotations_of(raw, path)
    if len(annotations) > options.max_objects:
        raise SceneInputError(
            f"{path}: expected at most {options.max_objects} objects, found {len(annotations)}; split the "
            "scene, or raise --max-objects"
        )
    found = [
        FoundObject(
            number, f"{path}: annotation {number}", mask_of(each, photo, f"{path}: annotation {number}")
        )
        for number, each in enumerate(annotations)
    ]
    return usable_objects(photo.image, found, options, path)


FORM = Form(
    title=_NAMES[0],
    claims=lambda name: name.lower() in _NAMES,
    read=_read,
    suffixes=(".json",),
    is_one_file=True,
)
