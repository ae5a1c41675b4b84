"""Faults that raw data can have, one of each, added to a look-alike without touching what is good in it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import uuid
from typing import Any

from dataset_toolkits.lookalike.raw_files import (
    OBJ_NAME,
    PICTURE_NAME,
    TEXTURE_NAME,
    RawModel,
    RawRoot,
    RawSet,
)

_NO_SIZE = b"v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n"
_ANNOTATIONS = "GT/{}_set.json"


def add_faults(root: RawRoot) -> None:
    """Damage copies: every model, photo and annotation that was there stays as it was.

    The faults are of models (picture of another hash, no folder, no OBJ, no size, texture cut off), of photos
    (missing, cut off, name as a number, name twice, two fields of view) and of annotations (mask beside the
    photo, empty mask, undecodable run lengths, pose that is no number, unknown model).
    """
    _add_model_faults(root)
    for name, raw_set in root.sets.items():
        _add_photo_faults(root, raw_set, name)
        _add_annotation_faults(root, raw_set, name)


def _add_model_faults(root: RawRoot) -> None:
    original = root.models[0]
    picture, texture = original.files[PICTURE_NAME], original.files[TEXTURE_NAME]
    without_obj = {name: content for name, content in original.files.items() if name != OBJ_NAME}
    changes: dict[str, dict[str, bytes]] = {
        "wrong hash": {**original.files, PICTURE_NAME: picture + b"changed"},
        "no folder": {},
        "no OBJ": without_obj,
        "no size": {**original.files, OBJ_NAME: _NO_SIZE},
        "texture cut off": {**original.files, TEXTURE_NAME: texture[: len(texture) // 2]},
    }
    for kind, files in changes.items():
        model = _other_model(original, kind, files)
        root.models.append(model)
        root.faults.append({"kind": kind, "file": "3D-FUTURE.csv", "item": model.sha256})


def _other_model(original: RawModel, kind: str, files: dict[str, bytes]) -> RawModel:
    """A model with another name and, but for the wrong hash, with the hash of its own picture."""
    if files and kind != "wrong hash":
        files = {**files, PICTURE_NAME: files[PICTURE_NAME] + kind.encode()}
    picture = files.get(PICTURE_NAME, b"") if kind != "wrong hash" else kind.encode()
    digest = hashlib.sha256(picture + (b"" if files else kind.encode())).hexdigest()
    model_id = str(uuid.uuid5(uuid.UUID(original.model_id), kind))
    return dataclasses.replace(original, model_id=model_id, sha256=digest, files=files)


def _add_photo_faults(root: RawRoot, raw_set: RawSet, name: str) -> None:
    first = raw_set.images[0]
    for number, kind in enumerate(
        ["photo missing", "photo cut off", "name is a number", "name twice", "two fields of view"]
    ):
        file_name: Any = f"{name == 'test':d}99000{number}"
        photo = raw_set.photos[first["file_name"]]
        image = {**first, "id": 900 + number, "file_name": file_name}
        if kind == "name is a number":
            image["file_name"] = int(file_name) or number
        elif kind == "name twice":
            image["file_name"] = first["file_name"]
        elif kind == "photo cut off":
            raw_set.photos[file_name] = photo[: len(photo) // 3]
        elif kind == "two fields of view":
            raw_set.photos[file_name] = photo
        raw_set.images.append(image)
        copies = [a for a in raw_set.annotations if a["image_id"] == first["id"]]
        for place, annotation in enumerate(copies):
            changed = {**annotation, "id": 1000 * (number + 9) + place, "image_id": image["id"]}
            if kind == "two fields of view" and place == 0:
                changed["fov"] = annotation["fov"] / 2
            raw_set.annotations.append(changed)
        root.faults.append({"kind": kind, "file": _ANNOTATIONS.format(name), "item": str(image["file_name"])})


def _add_annotation_faults(root: RawRoot, raw_set: RawSet, name: str) -> None:
    """Put wrong annotations of the first photo in front of the right ones, which keep their numbers."""
    original = raw_set.annotations[0]
    size = {"size": [raw_set.images[0]["height"], raw_set.images[0]["width"]]}
    pixels = size["size"][0] * size["size"][1]
    beside = [-30.0, -30.0, -20.0, -30.0, -20.0, -20.0]
    changes: dict[str, dict[str, Any]] = {
        "mask beside the photo": {"segmentation": [beside]},
        "empty mask": {"segmentation": {**size, "counts": [pixels]}},
        "undecodable run lengths": {"segmentation": {**size, "counts": "not run lengths"}},
        "pose is no number": {"pose": {"translation": [0.0, float("nan"), -2.0], "euler": [0.0, 0.0, 0.0]}},
        "unknown model": {"model_id": str(uuid.uuid5(uuid.NAMESPACE_URL, "no such model"))},
    }
    for number, (kind, change) in enumerate(changes.items()):
        wrong = {**copy.deepcopy(original), **change, "id": 8000 + number}
        raw_set.annotations.insert(0, wrong)
        root.faults.append({"kind": kind, "file": _ANNOTATIONS.format(name), "item": str(wrong["id"])})
