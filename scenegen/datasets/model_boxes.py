"""Boxes of raw model files: where their middle is and how long their longest side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from safe_files.json_reader import read_json
from scenegen.datasets.model_files import load_model_file
from scenegen.datasets.tables import Vector3
from trellis_modules.files import atomic_write_text

MODELS_FOLDER = Path("raw") / "3D-FUTURE-model"
OBJ_NAME = "raw_model.obj"
CACHE = Path(".cache") / "model_boxes.json"


class ModelFileError(ValueError):
    """A raw model file is missing, cannot be read, or has no size."""


@dataclass(frozen=True)
class ModelBox:
    """Axis-aligned box of a model file, in its own coordinates and unit."""

    center: Vector3
    size: Vector3

    @property
    def longest_side(self) -> float:
        """What poses count as 1."""
        return max(self.size)


class ModelBoxes:
    """The boxes of the models of a data root, each file read once, also over several runs (`save`)."""

    def __init__(
        self,
        root: Path,
        known: Mapping[str, ModelBox | ModelFileError] | None = None,
        stamps: Mapping[str, Sequence[int | str]] | None = None,
    ) -> None:
        """Measure the models of ``root``/raw/3D-FUTURE-model.

        Args:
            root: data root.
            known: boxes that were measured elsewhere; None takes those of earlier runs.
            stamps: of each model file, what changes when it does; None looks at the files on the disk.
        """
        self.folder, self._cache_path = root / MODELS_FOLDER, root / CACHE
        self._known: dict[str, ModelBox | ModelFileError] = dict(known or {})
        self._stamps = stamps
        self._stored = self._read_cache() if known is None else {}

    def path(self, model_id: str) -> Path:
        """The file of a model."""
        return self.folder / model_id / OBJ_NAME

    def box(self, model_id: str) -> ModelBox:
        """The box of a model.

        Raises:
            ModelFileError: its file is missing, cannot be read, or has no size.
        """
        if self.lacks(model_id):
            try:
                self._known[model_id] = measure(self.path(model_id))
            except ModelFileError as error:
                self._known[model_id] = error
        known = self._known[model_id]
        if isinstance(known, ModelFileError):
            raise known
        return known

    def lacks(self, model_id: str) -> bool:
        """Whether a model is still to be measured."""
        if model_id not in self._known and (stored := self._stored_box(model_id)) is not None:
            self._known[model_id] = stored
        return model_id not in self._known

    def add(self, model_id: str, found: ModelBox | ModelFileError) -> None:
        """Take a box that was measured elsewhere, or why there is none."""
        self._known[model_id] = found

    def of(self, model_ids: Iterable[str]) -> dict[str, ModelBox | ModelFileError]:
        """What is known of some models."""
        return {name: self._known[name] for name in model_ids if not self.lacks(name)}

    def save(self) -> None:
        """Keep what was measured for later runs, with the size and the time of each file."""
        entries = {
            model_id: {"stamp": self._stamp(model_id), "center": known.center, "size": known.size}
            for model_id, known in sorted(self._known.items())
            if isinstance(known, ModelBox)
        }
        atomic_write_text(self._cache_path, json.dumps(self._stored | entries))

    def _stored_box(self, model_id: str) -> ModelBox | None:
        entry = self._stored.get(model_id)
        if entry is None or entry["stamp"] != self._stamp(model_id):
            return None
        return ModelBox(tuple(entry["center"]), tuple(entry["size"]))

    def _stamp(self, model_id: str) -> list[int | str] | None:
        """What changes when the file of a model does; None where there is none."""
        if self._stamps is not None:
            return list(self._stamps[model_id]) if model_id in self._stamps else None
        path = self.path(model_id)
        if not path.is_file():
            return None
        state = path.stat()
        return [state.st_size, state.st_mtime_ns]

    def _read_cache(self) -> dict[str, Any]:
        """What an earlier run kept, without entries of another form; nothing where the file is damaged."""
        try:
            entries = read_json(self._cache_path)
        except (OSError, ValueError):
            return {}
        if not isinstance(entries, dict):
            return {}
        return {name: entry for name, entry in entries.items() if _is_entry(entry)}


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or entry.keys() != {"stamp", "center", "size"}:
        return False
    vectors = (entry["center"], entry["size"])
    if not all(isinstance(vector, list) and len(vector) == 3 for vector in vectors):
        return False
    numbers = [*entry["center"], *entry["size"]]
    return all(type(number) in (int, float) for number in numbers) and min(entry["size"]) >= 0


def load_model(path: Path, *, with_materials: bool = True) -> trimesh.Scene:
    """Read a model file as it is.

    Raises:
        ModelFileError: the file is missing or cannot be read.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file; unpack the models with download.py")
    try:
        return load_model_file(path, skip_materials=not with_materials)
    except ValueError as error:
        raise ModelFileError(f"{path}: expected a readable OBJ model, got {error}") from error


def surfaces(model: trimesh.Scene) -> list[trimesh.Trimesh]:
    """The meshes of a model, in its own coordinates; points and lines of its file are left out."""
    return [part for part in model.dump() if isinstance(part, trimesh.Trimesh) and len(part.faces)]


def used_vertices(model: trimesh.Scene) -> np.ndarray:
    """Vertices (V, 3) that faces of a model use, in its own coordinates."""
    parts = surfaces(model)
    return np.concatenate([np.zeros((0, 3)), *(part.vertices[np.unique(part.faces)] for part in parts)])


def measure(path: Path) -> ModelBox:
    """Read the box of a model file; only vertices of faces count.

    Raises:
        ModelFileError: the file is missing, cannot be read, or has no size.
    """
    vertices = used_vertices(load_model(path, with_materials=False))
    if not len(vertices) or not np.isfinite(vertices).all() or not np.ptp(vertices, axis=0).max() > 0:
        raise ModelFileError(f"{path}: expected a model with triangles and a size, found none")
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    return ModelBox(tuple(((low + high) / 2).tolist()), tuple((high - low).tolist()))
