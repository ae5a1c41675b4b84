"""True scenes of photos: files, pictures, cameras, and what went wrong."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trimesh

from dataset_toolkits.photos.set_paths import SetPaths
from dataset_toolkits.photos.truth import LEGACY_GLB_FRAME, true_scene, truth_glb, truth_record
from dataset_toolkits.photos.truth import render_entry as camera_entry
from dataset_toolkits.photos.truth_render import EMBREE, draw_with_blender, draw_with_embree
from safe_files.json_reader import read_json
from scenegen.batch.engines.tasks import TaskResult
from scenegen.blender.program import BlenderError
from scenegen.datasets.annotations import AnnotatedPhoto, AnnotationError, Fault, KeptObject, kept_objects
from scenegen.datasets.metadata import AssetRow
from scenegen.datasets.model_boxes import (
    MODELS_FOLDER,
    ModelBox,
    ModelBoxes,
    ModelFileError,
    load_model,
    used_vertices,
)
from scenegen.geometry import GLB_FRAME
from scenegen.stores.root_files import RootFiles
from trellis_modules.files import atomic_write_bytes, atomic_write_text

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


@dataclass(frozen=True)
class TruthJob:
    """A photo whose true scene is built, and what has to be known for it; can be pickled.

    Attributes:
        photo: with its annotations.
        assets: by the names of its models.
        boxes: of its models, or why there is none.
    """

    photo: AnnotatedPhoto
    assets: Mapping[str, AssetRow]
    boxes: Mapping[str, ModelBox | ModelFileError]


@dataclass(frozen=True)
class Truth:
    """What came of a photo; can be pickled.

    Attributes:
        entry: its camera for ``render_cfg.json``; None where there is no scene.
        faults: of annotations.
    """

    entry: Mapping[str, Any] | None
    faults: tuple[Fault, ...] = ()


class TruthBuilder:
    """Builds and draws true scenes, each unless an earlier run did."""

    def __init__(self, set_name: str, settings: TruthSettings) -> None:
        """Prepare.

        Args:
            set_name: of the photos.
            settings: of all scenes.
        """
        self._set_name, self._settings = set_name, settings
        self._models: OrderedDict[str, trimesh.Scene] = OrderedDict()

    def __call__(self, files: RootFiles, job: TruthJob) -> TaskResult:
        """What came of a photo, as `Truth`; what is wrong with it is the error.

        Raises:
            OSError: the disk refuses to be written to.
        """
        paths, name = SetPaths(files.root, self._set_name), job.photo.file_name
        boxes, faults = ModelBoxes(files.root, job.boxes), ()
        try:
            kept = kept_objects(job.photo, boxes.box)
            faults = tuple(kept.faults)
            objects = [*kept.objects, *(kept.hidden if self._settings.keep_hidden else ())]
            if not objects:
                return TaskResult(Truth(None, faults))
            record = self._earlier(files, paths, name, objects)
            if record is None:
                record = self._build(files, paths, job, objects, boxes)
        except (AnnotationError, ModelFileError) as error:
            return TaskResult(Truth(None, faults), files.told(str(error)))
        picture = self._picture(paths, name)
        shown = picture.relative_to(files.root).as_posix()
        truth = Truth(camera_entry(record, shown), faults)
        if self._settings.no_render or files.states(shown):
            return TaskResult(truth)
        glb = self._files(paths, name)[0]
        try:
            with files.here([glb.relative_to(files.root).as_posix()], [shown]):
                self._draw(glb, truth.entry, picture)
        except (BlenderError, ValueError) as error:  # the second: a scene that was damaged since
            return TaskResult(truth, files.told(str(error)))
        return TaskResult(truth)

    def _build(
        self,
        files: RootFiles,
        paths: SetPaths,
        job: TruthJob,
        objects: Sequence[KeptObject],
        boxes: ModelBoxes,
    ) -> dict[str, Any]:
        """Write the truth of a photo."""
        name = job.photo.file_name
        glb, truth = self._files(paths, name)
        made = [path.relative_to(files.root).as_posix() for path in (glb, truth)]
        wanted = dict.fromkeys(item.model_id for item in objects)
        folders = [(MODELS_FOLDER / model).as_posix() for model in wanted if model not in self._models]
        with files.here(folders, made):
            models = {model: self._model(boxes.path(model), model) for model in wanted}
            vertices = {model: used_vertices(each) for model, each in models.items()}
            scene = true_scene(job.photo, objects, boxes, vertices, self._settings.legacy_normalize)
            text = json.dumps(truth_record(scene, job.assets, self._frame), indent=1) + "\n"
            for stale in (self._picture(paths, name).relative_to(files.root).as_posix(), made[1]):
                files.remove(stale)  # of another scene
            atomic_write_bytes(glb, truth_glb(scene, models))
            atomic_write_text(truth, text)  # marks the scene as complete
        while len(self._models) > _KEPT_MODELS:
            self._models.popitem(last=False)
        return json.loads(text)

    def _earlier(
        self, files: RootFiles, paths: SetPaths, name: str, objects: Sequence[KeptObject]
    ) -> dict[str, Any] | None:
        """The truth that an earlier run wrote for the same objects in the same way."""
        glb, truth = self._files(paths, name)
        names = [path.relative_to(files.root).as_posix() for path in (glb, truth)]
        if len(files.states(*names)) < len(names):
            return None
        try:
            with files.here(names[1:]):
                record = read_json(truth)
            found = [(entry["id"], entry["model_id"]) for entry in record["objects"]]
            frame = record["glb"]["frame"]
        except (ValueError, KeyError, TypeError):
            return None
        wanted = [(item.instance_id, item.model_id) for item in objects]
        return record if found == wanted and frame == self._frame else None

    @property
    def _frame(self) -> str:
        return LEGACY_GLB_FRAME if self._settings.legacy_normalize else GLB_FRAME

    @staticmethod
    def _files(paths: SetPaths, name: str) -> tuple[Path, Path]:
        return paths.truth / f"{name}.glb", paths.truth / f"{name}.json"

    @staticmethod
    def _picture(paths: SetPaths, name: str) -> Path:
        return paths.truth_renders / f"{name}.png"

    def _model(self, path: Path, model_id: str) -> trimesh.Scene:
        """A model with its materials, kept for the next scenes."""
        if model_id not in self._models:
            self._models[model_id] = load_model(path)
        self._models.move_to_end(model_id)
        return self._models[model_id]

    def _draw(self, glb: Path, entry: Mapping[str, Any], picture: Path) -> None:
        settings = self._settings
        if settings.engine == EMBREE:
            draw_with_embree(glb, entry, picture)
        else:
            draw_with_blender(glb, entry, picture, settings.samples, settings.timeout, settings.blender)
