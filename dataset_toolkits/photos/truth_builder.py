"""True scenes of a set, one after the other: files, pictures, cameras, and what went wrong."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trimesh

from dataset_toolkits.photos.rows import AssetIndex
from dataset_toolkits.photos.set_paths import SetPaths
from dataset_toolkits.photos.truth import LEGACY_GLB_FRAME, true_scene, truth_glb, truth_record
from dataset_toolkits.photos.truth import render_entry as camera_entry
from dataset_toolkits.photos.truth_render import EMBREE, draw_with_blender, draw_with_embree
from safe_files.json_reader import read_json
from scenegen.blender.program import BlenderError
from scenegen.datasets.annotations import AnnotatedPhoto, AnnotationError, KeptObject, kept_objects
from scenegen.datasets.metadata import ASSETS_NAME, read_assets
from scenegen.datasets.model_boxes import ModelBoxes, ModelFileError, load_model, used_vertices
from scenegen.geometry import GLB_FRAME
from trellis_modules.files import atomic_write_bytes, atomic_write_text

logger = logging.getLogger(__name__)

_KEPT_MODELS = 64  # loaded models, with their textures, that stay in memory


@dataclass(frozen=True)
class TruthSettings:
    """How true scenes are built and drawn; see the flags of ``build_scene.py``."""

    engine: str
    samples: int = 128
    timeout: float | None = None
    blender: str | None = None
    keep_hidden: bool = False
    legacy_normalize: bool = False
    no_render: bool = False


@dataclass
class TruthBuilder:
    """The scenes of a set.

    Attributes:
        paths: the set.
        settings: of all its scenes.
        entries: cameras of ``render_cfg.json`` by scene.
        failed: reasons by photo or annotation.
    """

    paths: SetPaths
    settings: TruthSettings
    entries: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        table = self.paths.root / ASSETS_NAME
        assets = read_assets(table, lambda error: logger.warning("%s", error))
        self._assets, self._boxes = AssetIndex(assets).by_model, ModelBoxes(self.paths.root)
        self._models: OrderedDict[str, trimesh.Scene] = OrderedDict()

    def add(self, photo: AnnotatedPhoto) -> None:
        """Build and draw one scene unless an earlier run did; what is wrong is named and counted.

        Raises:
            OSError: the disk refuses to be written to.
        """
        try:
            record = self._record(photo)
        except (AnnotationError, ModelFileError) as error:
            self.fail(photo.file_name, str(error))
            return
        if record is None:
            return
        name = photo.file_name
        picture = self._picture(name)
        self.entries[name] = camera_entry(record, picture.relative_to(self.paths.root).as_posix())
        if self.settings.no_render or picture.is_file():
            return
        try:
            self._draw(name)
        except (BlenderError, ValueError) as error:  # the second: a scene that was damaged since
            self.fail(name, str(error))

    def fail(self, item: str, reason: str) -> None:
        """Name and count what could not be made."""
        self.failed[item] = " ".join(reason.split())
        logger.warning("%s: %s: %s", self.paths.annotations, item, reason)

    def _record(self, photo: AnnotatedPhoto) -> dict[str, Any] | None:
        """The truth of a photo, written unless it was; None for one without a kept object."""
        kept = kept_objects(photo, self._boxes.box)
        for fault in kept.faults:
            self.fail(fault.item, fault.reason)
        objects = [*kept.objects, *(kept.hidden if self.settings.keep_hidden else ())]
        if not objects:
            return None
        if earlier := self._earlier(photo.file_name, objects):
            return earlier
        models = {item.model_id: self._model(item.model_id) for item in objects}
        vertices = {name: used_vertices(model) for name, model in models.items()}
        scene = true_scene(photo, objects, self._boxes, vertices, self.settings.legacy_normalize)
        text = json.dumps(truth_record(scene, self._assets, self._frame), indent=1) + "\n"
        glb, truth = self._files(photo.file_name)
        self._picture(photo.file_name).unlink(missing_ok=True)  # of another scene
        truth.unlink(missing_ok=True)
        atomic_write_bytes(glb, truth_glb(scene, models))
        atomic_write_text(truth, text)  # marks the scene as complete
        return json.loads(text)

    def _earlier(self, name: str, objects: Sequence[KeptObject]) -> dict[str, Any] | None:
        """The truth that an earlier run wrote for the same objects in the same way."""
        glb, truth = self._files(name)
        if not glb.is_file() or not truth.is_file():
            return None
        try:
            record = read_json(truth)
            found = [(entry["id"], entry["model_id"]) for entry in record["objects"]]
            frame = record["glb"]["frame"]
        except (ValueError, KeyError, TypeError):
            return None
        wanted = [(item.instance_id, item.model_id) for item in objects]
        return record if found == wanted and frame == self._frame else None

    @property
    def _frame(self) -> str:
        return LEGACY_GLB_FRAME if self.settings.legacy_normalize else GLB_FRAME

    def _files(self, name: str) -> tuple[Path, Path]:
        return self.paths.truth / f"{name}.glb", self.paths.truth / f"{name}.json"

    def _picture(self, name: str) -> Path:
        return self.paths.truth_renders / f"{name}.png"

    def _model(self, model_id: str) -> trimesh.Scene:
        """A model with its materials, kept for the next scenes."""
        if model_id not in self._models:
            self._models[model_id] = load_model(self._boxes.path(model_id))
        self._models.move_to_end(model_id)
        while len(self._models) > _KEPT_MODELS:
            self._models.popitem(last=False)
        return self._models[model_id]

    def _draw(self, name: str) -> None:
        glb, settings = self._files(name)[0], self.settings
        if settings.engine == EMBREE:
            draw_with_embree(glb, self.entries[name], self._picture(name))
        else:
            draw_with_blender(
                glb,
                self.entries[name],
                self._picture(name),
                settings.samples,
                settings.timeout,
                settings.blender,
            )
