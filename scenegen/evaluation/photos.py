"""Scenes of photos without truth: how well what the camera sees of each object covers its mask.

A figure without truth says how well a scene agrees with its photo, and no more: sizes, distances and all that
the photo does not show may be wrong and leave it as it is. See docs/photo-fit.md.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from safe_files.json_reader import read_json
from safe_files.limits import MAX_GLB_BYTES
from safe_files.regular import UnreadableFile, read_bytes
from scenegen.evaluation.glb import GlbError
from scenegen.evaluation.loading import EvaluationError, SceneFiles, fault_of, find_scene_files, load_scene
from scenegen.evaluation.pictures.cameras import camera_of_truth
from scenegen.evaluation.records import RecordStore
from scenegen.evaluation.report import bootstrap_interval
from scenegen.evaluation.scene import Record
from scenegen.evaluation.scene_files import EVALUATED, FAILED, MISSING
from scenegen.evaluation.scene_list import ListedScenes
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import InputScene, detect_scene, find_scene_folders
from scenegen.inputs.scene_folder import read_layout
from scenegen.inputs.scene_images import SceneImages
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.mask_overlap import MODAL_WIDTH, MaskOverlap, mask_overlaps
from scenegen.photo.silhouettes import Surface

_LOG = logging.getLogger(__name__)

PHOTO_FORMAT = 1
"""Raised whenever figures change their meaning, so that older records are not resumed."""

FIGURES = ("modal_overlap", "mask_overlap")

UNREADABLE = "unreadable"
"""Status of a scene whose photo or masks cannot be read: it has no objects, and does not count."""

_TOLERANCE = 0.01  # of a camera's principal point and focal lengths


@dataclass(frozen=True)
class PhotoPair:
    """The photo of a scene with its masks, and the files of its prediction (None where there are none)."""

    photo: InputScene
    prediction: SceneFiles | None

    @property
    def scene_id(self) -> str:
        """The id of the scene."""
        return self.photo.scene_id

    def found_masks(self) -> PhotoPair:
        """With the masks that were found for a photo without any, where they lie beside the prediction."""
        if self.prediction is None or self.photo.fault is not None:
            return self
        folder = self.prediction.scene.parent
        photos = tuple(
            each.with_found_labels(folder)
            if each.form is None and each.found_labels(folder).is_file()
            else each
            for each in self.photo.photos
        )
        return replace(self, photo=replace(self.photo, photos=photos))


def pair_photos(
    prediction: Path, photos: Path, limit: int | None = None, scene_list: Path | None = None
) -> tuple[ListedScenes, list[PhotoPair]]:
    """Pair predicted scenes with the photos that they were made of, by id.

    Args:
        prediction: folder in one of the layouts of `scenegen.evaluation.loading`.
        photos: folder of scene folders, as for inference.
        limit: only the first scenes.
        scene_list: file of ids; None takes all photos in natural order.

    Raises:
        EvaluationError: a folder is missing, or has no scene of the other or of the list.
    """
    try:
        found = {scene.scene_id: scene for scene in map(detect_scene, find_scene_folders(photos))}
    except SceneInputError as error:
        raise EvaluationError(str(error).replace("--input", "--photos")) from error
    predicted = find_scene_files(prediction)
    scenes = ListedScenes.load(scene_list) if scene_list else ListedScenes.of(photos.name, found)
    scenes = scenes.first(limit)
    if absent := [scene_id for scene_id in scenes.ids if scene_id not in found]:
        raise EvaluationError(
            f"{photos}: expected the photos of {scenes.name}, {len(absent)} of {len(scenes.ids)} are absent, "
            f"the first is {absent[0]!r}; complete the folder"
        )
    if not predicted.keys() & set(scenes.ids):
        raise EvaluationError(
            f"{prediction}: expected scenes with the names of the photos, as {scenes.ids[0]!r}, got none "
            "of them; check that both folders are of the same scenes"
        )
    return scenes, [
        PhotoPair(found[scene_id], predicted.get(scene_id)).found_masks() for scene_id in scenes.ids
    ]


def iterate_photo_records(pairs: Sequence[PhotoPair], store: RecordStore) -> Iterator[Record]:
    """Measure scenes one after the other; those that the store knows are taken from there."""
    for pair in pairs:
        key = photo_fingerprint(pair)
        if (record := store.get(key)) is None:
            record = measure_photo(pair)
            store.add(key, record)
        yield record


def photo_fingerprint(pair: PhotoPair) -> str:
    """SHA-256 over the contents of all files of a scene, under which its record is kept.

    A file that cannot be read counts by its fault, which the record tells.
    """
    digest = hashlib.sha256(json.dumps([PHOTO_FORMAT, MODAL_WIDTH, pair.scene_id]).encode())
    paths = [path for each in pair.photo.photos for path in (each.photo, *each.files) if path is not None]
    if pair.prediction is not None:
        paths += [path for path in (pair.prediction.scene, pair.prediction.poses) if path is not None]
    for path in paths:
        try:
            content = read_bytes(path, MAX_GLB_BYTES)
        except (OSError, UnreadableFile) as error:
            content = fault_of(error).encode()
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()


def measure_photo(pair: PhotoPair) -> Record:
    """Measure one scene.

    Returns:
        A record with id, status, error, warnings, seconds, the means of the figures, and objects: id, pixels
        of the mask, and the figures of each object of the photo. What was not made, or is seen by no camera,
        covers nothing.
    """
    start = time.perf_counter()
    record: Record = {"id": pair.scene_id, "status": EVALUATED, "error": None, "warnings": [], "objects": []}
    try:
        if pair.photo.fault is not None:
            raise SceneInputError(pair.photo.fault)
        images = read_layout(pair.photo)[0]
    except SceneInputError as error:
        return record | {"status": UNREADABLE, "error": f"{error}; not counted", "seconds": 0.0}
    overlaps: dict[int, MaskOverlap] = {}
    if pair.prediction is None:
        record |= {"status": MISSING, "error": f"{pair.scene_id}: no prediction; its objects cover nothing"}
    else:
        try:
            overlaps, record["warnings"] = _overlaps(pair.prediction, images)
        except (EvaluationError, GlbError) as error:
            record |= {"status": FAILED, "error": str(error)}
    record["objects"] = [
        {
            "id": number,
            "pixels": int(mask.sum()),
            **dict(zip(FIGURES, overlaps.get(number, MaskOverlap(0.0, 0.0)))),
        }
        for number, mask in zip(images.object_ids, images.masks)
    ]
    means = {name: _mean(entry[name] for entry in record["objects"]) for name in FIGURES}
    return record | means | {"seconds": time.perf_counter() - start}


def _overlaps(files: SceneFiles, images: SceneImages) -> tuple[dict[int, MaskOverlap], list[str]]:
    """Figures of the objects that are there, by number, and warnings."""
    scene = load_scene(files.scene)
    warnings = list(scene.warnings)
    masks = dict(zip(images.object_ids, images.masks))
    if not scene.named:
        raise EvaluationError(
            f"{files.scene}: expected nodes named obj_<n> by the numbers of the masks, got none; export the "
            "scene with such names"
        )
    surfaces = {
        number: Surface(item.vertices, item.faces)
        for number, item in scene.objects.items()
        if number in masks
    }
    if missing := sorted(masks.keys() - surfaces.keys()):
        warnings.append(
            f"{files.scene}: expected objects {sorted(masks)}, missing {missing}; they cover nothing"
        )
    height, width = images.masks[0].shape
    camera = _camera(files, (width, height))
    if camera is None:
        return {}, [*warnings, f"{files.scene}: no camera explains the masks; its objects cover nothing"]
    if not surfaces:
        return {}, warnings
    found = mask_overlaps(camera, list(surfaces.values()), [masks[number] for number in surfaces])
    return dict(zip(surfaces, found)), warnings


def _camera(files: SceneFiles, size: tuple[int, int]) -> PhotoCamera | None:
    """The camera that a scene states, in the frame of its file; None where it states that there is none."""
    if files.poses is None:
        raise EvaluationError(
            f"{files.scene}: expected a record with the camera beside it, found none; write poses.json"
        )
    try:
        raw = read_json(files.poses)
    except (OSError, UnreadableFile) as error:
        raise EvaluationError(
            f"{files.poses}: expected a record of the scene, got {fault_of(error)}; make the scene again"
        ) from error
    if isinstance(raw, dict) and "camera" in raw and raw["camera"] is None:
        return None
    found = camera_of_truth(files.poses, size)
    width, height = size
    off = np.abs(np.array(found.centre) / size - 0.5).max(), abs(found.focal[0] / found.focal[1] - 1)
    if max(off) > _TOLERANCE:
        raise EvaluationError(
            f"{files.poses}: expected a camera with square pixels in a photo of {width} x {height} and its "
            f"principal point in the middle, got focal lengths {found.focal} and {found.centre} in pixels; "
            "check that the photo is the one the scene was made of"
        )
    return PhotoCamera(found.extrinsics, found.focal[0] / width, height / width)


def build_photo_report(
    records: Iterable[Record], scenes: ListedScenes, inputs: dict[str, str]
) -> dict[str, Any]:
    """Summarise records: each figure's mean over objects of each scene, then over scenes.

    Args:
        records: from `measure_photo`, in their order.
        scenes: the list that was measured.
        inputs: what was compared, by name.

    Returns:
        JSON-ready report.
    """
    records = list(records)
    counted = [record for record in records if record["status"] != UNREADABLE]
    summary = {}
    for name in FIGURES:
        values = [record[name] for record in counted if record[name] is not None]
        low, high = bootstrap_interval([[value] for value in values]) if values else (None, None)
        summary[name] = {
            "mean": _mean(values),
            "median": float(np.median(values)) if values else None,
            "ci95": [low, high],
            "mean_of_objects": _mean(entry[name] for record in counted for entry in record["objects"]),
        }
    return {
        "format": PHOTO_FORMAT,
        "inputs": inputs,
        "list": asdict(scenes),
        "settings": {"modal_width": MODAL_WIDTH},
        "coverage": {
            "scenes": len(records),
            **{
                status: sum(record["status"] == status for record in records)
                for status in (EVALUATED, MISSING, FAILED, UNREADABLE)
            },
            "objects": sum(len(record["objects"]) for record in counted),
        },
        "summary": summary,
        "failures": [
            {"id": record["id"], "status": record["status"], "error": record["error"]}
            for record in records
            if record["status"] != EVALUATED
        ],
        "scenes": records,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
