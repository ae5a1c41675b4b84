"""Annotated photos: which of their objects are kept, under which number, with which mask.

One file in the form of COCO lists photos and the objects in them. `kept_objects` is the one rule by which the
masks, cut-outs, tables and true scenes of a photo choose and number its objects: an object is kept when it
names a model whose file exists, has a pose, and its mask has a pixel. Kept objects are numbered 0, 1, ... in
the order of the annotations.

Source: annotations of 3D-FUTURE, H. Fu et al., arXiv:2009.09633.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scenegen.datasets.tables import Vector3
from scenegen.inputs.coco_masks import decode_segmentation

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # names become file names
_MAX_SIDE = 20_000
DEFAULT_FOV = math.radians(60)
"""Horizontal field of view of a photo whose annotations name none."""


class AnnotationError(ValueError):
    """An annotation file, or a photo or an object in it, cannot be used; the message names it."""


@dataclass(frozen=True)
class AnnotatedPhoto:
    """One photo and the objects in it as the file has them.

    Attributes:
        source: the annotation file, for messages.
        image_id: number of the photo in the file.
        file_name: name of the photo without its ending; the id of the scene.
        width, height: pixels.
        annotations: of this photo, in the order of the file.
    """

    source: Path
    image_id: int
    file_name: str
    width: int
    height: int
    annotations: tuple[Mapping[str, Any], ...]

    def name_of(self, annotation: Mapping[str, Any]) -> str:
        """How messages name an object."""
        return f"annotation {annotation.get('id')} of {self.file_name}"

    def models(self) -> list[str]:
        """Names of the models of objects that have a pose, each once, without those that are no names."""
        placed = [a for a in self.annotations if _pose_numbers(a, "translation") is not None]
        names = [a.get("model_id") for a in placed]
        return list(dict.fromkeys(n for n in names if isinstance(n, str) and _NAME.fullmatch(n)))

    def fov(self) -> float:
        """Horizontal field of view in radians; 60 degrees where no annotation has one.

        Raises:
            AnnotationError: the annotations name several, or something else than an angle.
        """
        values = {a["fov"] for a in self.annotations if isinstance(a.get("fov"), (int, float))}
        if strange := [a for a in self.annotations if not isinstance(a.get("fov"), (int, float, type(None)))]:
            raise AnnotationError(f"{self.source}: {self.name_of(strange[0])}: expected a fov in radians")
        if len(values) > 1:
            raise AnnotationError(
                f"{self.source}: {self.file_name}: expected one fov for a photo, got "
                f"{sorted(values)[:3]}; correct the annotations"
            )
        fov = values.pop() if values else DEFAULT_FOV
        if not 0 < fov < math.pi:
            raise AnnotationError(
                f"{self.source}: {self.file_name}: expected a fov in radians between 0 and pi, got {fov}"
            )
        return float(fov)


@dataclass(frozen=True)
class KeptObject:
    """One object of a photo.

    Attributes:
        instance_id: its number in the photo.
        model_id: the model at its source.
        translation: position of the model file's origin in the camera's frame (x right, y up, looking along
            -z), in the unit of the model file.
        rotation_deg: Euler angles about the fixed axes x, y, z.
        mask: (H, W) bool; without a pixel for hidden objects only.
    """

    instance_id: int
    model_id: str
    translation: Vector3
    rotation_deg: Vector3
    mask: np.ndarray


@dataclass(frozen=True)
class Fault:
    """What is wrong with one entry of an annotation file: which one, and why."""

    item: str
    reason: str


@dataclass(frozen=True)
class KeptObjects:
    """What `kept_objects` found.

    Attributes:
        objects: the kept ones, by number.
        hidden: those with model and pose but without a pixel, numbered after the kept ones.
        faults: the annotations that are wrong.
        left_out: how many annotations were left out, by reason.
    """

    objects: tuple[KeptObject, ...]
    hidden: tuple[KeptObject, ...]
    faults: tuple[Fault, ...]
    left_out: Mapping[str, int]


def read_annotations(path: Path, on_fault: Callable[[Fault], None] | None = None) -> list[AnnotatedPhoto]:
    """Read the photos of an annotation file, in its order.

    Args:
        path: JSON with ``images`` (id, file_name, width, height) and ``annotations`` (id, image_id, ...).
        on_fault: takes what is wrong with a single photo or annotation, which is left out; None raises it.

    Raises:
        AnnotationError: the file is missing or is no such JSON; without `on_fault` also for a single photo.
    """
    if not path.is_file():
        raise AnnotationError(f"{path}: no such file; place the annotations of the photos there")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images, annotations = content["images"], content["annotations"]
        if not isinstance(images, list) or not isinstance(annotations, list):
            raise TypeError("images and annotations must be lists")
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise AnnotationError(
            f"{path}: expected annotations in the form of COCO, got {type(error).__name__}: {error}; "
            "place the file again"
        ) from error

    def refuse(item: str, reason: str) -> None:
        if on_fault is None:
            raise AnnotationError(f"{path}: {item}: {reason}")
        on_fault(Fault(item, reason))

    photos: dict[int, Mapping[str, Any]] = {}
    names, refused = set(), set()
    for number, image in enumerate(images):
        if problem := _photo_problem(image, photos, names):
            refuse(f"image {number}", problem)
            refused.update([image["id"]] if isinstance(image, dict) and type(image.get("id")) is int else [])
            continue
        photos[image["id"]] = image
        names.add(image["file_name"])
    by_photo: dict[int, list[Mapping[str, Any]]] = {image_id: [] for image_id in photos}
    for number, annotation in enumerate(annotations):
        image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
        if type(image_id) is int and image_id in by_photo:
            by_photo[image_id].append(annotation)
        elif type(image_id) is not int or image_id not in refused:
            refuse(f"annotation {number}", f"expected the image_id of a photo of this file, got {image_id!r}")
    return [
        AnnotatedPhoto(path, key, image["file_name"], image["width"], image["height"], tuple(by_photo[key]))
        for key, image in photos.items()
    ]


def kept_objects(photo: AnnotatedPhoto, check_model: Callable[[str], object]) -> KeptObjects:
    """Choose and number the objects of a photo; a wrong annotation never keeps the others from their place.

    Args:
        check_model: raises ValueError for a model whose file is missing or cannot be used, for example
            `scenegen.datasets.model_boxes.ModelBoxes.box`.
    """
    found: list[tuple[Mapping[str, Any], np.ndarray]] = []
    faults, left_out = [], Counter()
    for annotation in photo.annotations:
        if annotation.get("model_id") is None:
            left_out["no model"] += 1
        elif _pose_numbers(annotation, "translation") is None:
            left_out["no pose"] += 1
        else:
            try:
                _check_object(annotation)
                check_model(annotation["model_id"])
                mask = decode_segmentation(annotation.get("segmentation"), photo.height, photo.width)
                found.append((annotation, mask))
            except ValueError as error:  # all three of them raise kinds of it
                faults.append(Fault(photo.name_of(annotation), str(error)))
                left_out["wrong"] += 1
    hidden = [annotation for annotation, mask in found if not mask.any()]
    faults += [Fault(photo.name_of(item), "its mask has no pixel inside the photo") for item in hidden]
    left_out["no pixel"] += len(hidden)
    ordered = sorted(found, key=lambda pair: not pair[1].any())  # stable: the kept ones keep their order
    objects = [_kept(number, *pair) for number, pair in enumerate(ordered)]
    count = len(objects) - len(hidden)
    return KeptObjects(tuple(objects[:count]), tuple(objects[count:]), tuple(faults), +left_out)


def _photo_problem(image: Any, photos: Mapping[int, Any], names: set[str]) -> str | None:
    """What is wrong with the entry of a photo."""
    if not isinstance(image, dict) or type(image.get("id")) is not int:
        return "expected a photo with a number as its id"
    name = image.get("file_name")
    if not isinstance(name, str):
        return f"expected a file_name as text, with its leading zeros, got {name!r}"
    if not _NAME.fullmatch(name):
        return f"expected letters and digits as file_name, got {name[:50]!r}"
    if image["id"] in photos or name in names:
        return f"id {image['id']} or file_name {name} is there twice; keep one of them"
    sides = [image.get("width"), image.get("height")]
    if not all(type(side) is int and 0 < side <= _MAX_SIDE for side in sides):
        return f"{name}: expected width and height from 1 to {_MAX_SIDE} pixels, got {sides}"
    return None


def _pose_numbers(annotation: Mapping[str, Any], name: str) -> Any:
    pose = annotation.get("pose")
    return pose.get(name) if isinstance(pose, dict) else None


def _check_object(annotation: Mapping[str, Any]) -> None:
    """Refuse an annotation whose model's name or pose cannot be used.

    Raises:
        AnnotationError: without the name of the annotation, which the caller has.
    """
    model_id = annotation["model_id"]
    if not isinstance(model_id, str) or not _NAME.fullmatch(model_id):
        raise AnnotationError(f"expected a model_id of letters and digits, got {str(model_id)[:50]!r}")
    for name in ("translation", "euler"):
        values = _pose_numbers(annotation, name)
        numbers = isinstance(values, list) and len(values) == 3
        if not numbers or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
            raise AnnotationError(f"pose.{name}: expected three finite numbers, got {str(values)[:80]}")


def _kept(number: int, annotation: Mapping[str, Any], mask: np.ndarray) -> KeptObject:
    translation, rotation = (
        tuple(float(value) for value in _pose_numbers(annotation, name)) for name in ("translation", "euler")
    )
    return KeptObject(number, annotation["model_id"], translation, rotation, mask)
