"""The raw files of a look-alike of 3D-FUTURE, first in memory and then on disk."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scenegen.synthesis.furniture.records import ModelInfo
from scenegen.synthesis.layouts.scene_list import SceneList
from trellis_modules.files import atomic_write, atomic_write_bytes, atomic_write_text

SETS = ("train", "test")
MODEL_FOLDER = "3D-FUTURE-model"
SCENE_FOLDER = Path("raw") / "3D-FUTURE-scene"
OBJ_NAME, PICTURE_NAME, TEXTURE_NAME, MATERIAL_NAME = "raw_model.obj", "image.jpg", "texture.png", "model.mtl"
TABLE_NAME, FAULTS_NAME = "3D-FUTURE.csv", "faults.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever the zip is written


@dataclass(frozen=True)
class RawModel:
    """One model of the zip and of the table.

    Attributes:
        model_id: name of its folder.
        sha256: key in the table; as a rule the hash of its picture.
        files: content by name.
        info: the furniture that it was made of.
        aesthetic_score: of the table.
    """

    model_id: str
    sha256: str
    files: Mapping[str, bytes]
    info: ModelInfo
    aesthetic_score: float


@dataclass
class RawSet:
    """Photos and annotations of a set: ``images`` and ``annotations`` of the JSON file, photos by name."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    photos: dict[str, bytes] = field(default_factory=dict)
    scene_list: SceneList | None = None


@dataclass
class RawRoot:
    """All of it; ``faults`` says what was damaged on purpose: kind, file and item."""

    models: list[RawModel]
    sets: dict[str, RawSet]
    faults: list[dict[str, str]] = field(default_factory=list)

    def write(self, root: Path) -> None:
        """Write every file below ``root``, each appearing whole.

        Raises:
            SplitError: a scene of a set has furniture of another split.
        """
        atomic_write_text(root / TABLE_NAME, table_text(self.models))
        with atomic_write(root / "raw" / f"{MODEL_FOLDER}.zip") as temporary:
            temporary.write_bytes(zip_bytes(self.models))
        for name, raw_set in self.sets.items():
            folder = root / SCENE_FOLDER
            if raw_set.scene_list is not None:
                raw_set.scene_list.save(folder / f"layouts_{name}.json")
            for file_name, photo in raw_set.photos.items():
                atomic_write_bytes(folder / name / "image" / f"{file_name}.jpg", photo)
            content = {"images": raw_set.images, "annotations": raw_set.annotations}
            atomic_write_text(folder / "GT" / f"{name}_set.json", json.dumps(content, indent=1) + "\n")
        if self.faults:
            atomic_write_text(root / FAULTS_NAME, json.dumps(self.faults, indent=1) + "\n")


def table_text(models: Iterable[RawModel]) -> str:
    """The published table's columns, and those that say which furniture a model is and whom to credit."""
    text = io.StringIO()
    columns = ["sha256", "file_identifier", "aesthetic_score", "captions"]
    columns += ["id", "name", "super_category", "tier", "split", "symmetry", "licence", "creator"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for model in models:
        info = model.info
        identifier, captions = f"{MODEL_FOLDER}/{model.model_id}", json.dumps([info.name])
        row = [model.sha256, identifier, model.aesthetic_score, captions]
        row += [info.id, info.name, info.super_category, info.tier, info.split]
        writer.writerow([*row, info.symmetry, info.licence, info.creator])
    return text.getvalue()


def zip_bytes(models: Iterable[RawModel]) -> bytes:
    """The zip of all models, with an entry for each folder as the published one has."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(f"{MODEL_FOLDER}/", _EPOCH), b"")
        for model in models:
            if not model.files:
                continue
            archive.writestr(zipfile.ZipInfo(f"{MODEL_FOLDER}/{model.model_id}/", _EPOCH), b"")
            for name, content in model.files.items():
                entry = zipfile.ZipInfo(f"{MODEL_FOLDER}/{model.model_id}/{name}", _EPOCH)
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(entry, content)
    return buffer.getvalue()
