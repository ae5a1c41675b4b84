"""A scene on its way: what is checked before, what a device does, and the files that come of it."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scenegen.demo.controls import SceneControls
from scenegen.demo.jobs import Job
from scenegen.demo.looks import SceneLook, with_names
from scenegen.demo.models import DemoModels
from scenegen.demo.session import MadeScene, Pair, Session
from scenegen.export.names import SCENE_FILE
from scenegen.export.registry import FORMATS_OF_ANY_CHECKPOINT, RECORD, STATE
from scenegen.export.scene_files import write_scene
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.label_image import write_labels
from scenegen.inputs.names import PHOTO_NAME, cutout_name, mask_name
from scenegen.inputs.scene_images import SceneImages
from scenegen.pipelines.progress import OnProgress
from scenegen.pipelines.reroll import EditError
from scenegen.pipelines.result import SceneResult
from scenegen.refinement.placement import refine_result

_NOT_OFFERED = ("preview", "structure")
DOWNLOAD_FORMATS = (*(name for name in FORMATS_OF_ANY_CHECKPOINT if name not in _NOT_OFFERED), STATE)
"""What the page offers for download."""

SCENE_FORMATS = ("glb", "objects", RECORD, STATE)
"""In what a scene is written when it is made."""

ZIP_FILE = "scene.zip"

_EARLIER_KEPT = 10


@dataclass(frozen=True)
class SceneRequest:
    """What a scene is made of, checked.

    Attributes:
        session: whose scene it is.
        pairs: photos with their objects, at least one.
        controls: how it is made.
        debug_dumps: folder that gets a copy of the input; None keeps nothing.
    """

    session: Session
    pairs: tuple[Pair, ...]
    controls: SceneControls
    debug_dumps: Path | None = None

    def make(self, models: DemoModels, look: SceneLook | None, job: Job, device: torch.device) -> None:
        """Make the scene on a device and leave it in the session.

        Raises:
            Cancelled: somebody asked to.
            CheckpointError: the networks cannot be had.
            SceneInputError: see `SceneImages.from_masks`.
        """
        views = [pair.scene_images() for pair in self.pairs]
        if self.debug_dumps is not None:
            dump_input(views[0], self.debug_dumps)
        pipeline = models.pipeline(device)
        settings = self.controls.run_settings(pipeline.config, self.pairs[0].query)
        result = pipeline.run(
            views,
            settings,
            on_progress=job.report,
            should_stop=job.should_stop,
            on_preview=None if look is None else look.show,
            on_object=None if look is None else look.show_object,
        )
        if self.controls.refine:
            result = refine_result(result, views[0].masks)
        result = with_names(result, self.pairs[0].names)
        made = write_made(self.session, result, self.pairs[0].name, self.pairs, job.seconds, job.report)
        with self.session.lock:
            self.session.scene = made
            self.session.earlier.clear()


@dataclass(frozen=True)
class RerollRequest:
    """An object of a scene that is made anew, checked.

    Attributes:
        session: whose scene it is.
        scene: the scene before.
        object_id: of the object.
        pairs: the scene's photos with the masks of today.
        has_new_mask: whether the object's mask is another one than before.
    """

    session: Session
    scene: MadeScene
    object_id: int
    pairs: tuple[Pair, ...]
    has_new_mask: bool = False

    def make(self, models: DemoModels, look: SceneLook | None, job: Job, device: torch.device) -> None:
        """Make the object on a device, and leave the scene with it in the session.

        Raises:
            Cancelled: somebody asked to.
            CheckpointError: the networks cannot be had.
            SceneInputError: the mask lies over another object.
        """
        mask = self.pairs[0].labels == self.object_id + 1
        try:
            result = models.pipeline(device).reroll(
                self.scene.result,
                [self.object_id],
                masks={self.object_id: mask} if self.has_new_mask else None,
                on_progress=job.report,
                should_stop=job.should_stop,
                on_object=None if look is None else look.show_object,
            )
        except EditError as error:
            raise SceneInputError(str(error)) from error
        made = write_made(self.session, result, self.scene.folder.name, self.pairs, job.seconds, job.report)
        with self.session.lock:
            self.session.earlier.append(self.scene)
            del self.session.earlier[:-_EARLIER_KEPT]
            self.session.scene = made


def write_made(
    session: Session,
    result: SceneResult,
    name: str,
    pairs: tuple[Pair, ...],
    seconds: float,
    on_progress: OnProgress | None = None,
) -> MadeScene:
    """Write a scene into a folder of the session, in place of the one that was there."""
    with session.making_folder("scene", keep_last=1) as parent:
        folder = parent / name
        files = write_scene(result, folder, SCENE_FORMATS, on_progress=on_progress)
        return MadeScene(result, folder, tuple(files), pairs, seconds)


def check_pairs(pairs: Sequence[Pair]) -> None:
    """Refuse photos that cannot be one scene, before any network runs.

    Raises:
        SceneInputError: there is none, or they have different numbers of objects.
    """
    if not pairs:
        raise SceneInputError(
            "expected a picture in the cache, found none; segment a picture and add it to the cache first"
        )
    counts = [len(pair.names) for pair in pairs]
    if len(set(counts)) > 1:
        listed = ", ".join(f"pair {number} has {count}" for number, count in enumerate(counts, start=1))
        raise SceneInputError(
            f"expected the same objects in the same order in every picture, but {listed}; delete a pair or "
            "mark the missing objects"
        )


def check_format(name: str) -> None:
    """Refuse a format that the page does not offer.

    Raises:
        SceneInputError: it does not.
    """
    if name not in DOWNLOAD_FORMATS:
        raise SceneInputError(f"format {name!r}: expected one of {', '.join(DOWNLOAD_FORMATS)}; choose one")


def write_downloads(scene: MadeScene, formats: Sequence[str], folder: Path) -> list[Path]:
    """Write a scene in more formats, with its label images, and all of it as one archive.

    Args:
        scene: that was made.
        formats: some of `DOWNLOAD_FORMATS`.
        folder: empty.

    Returns:
        The files, the archive last.

    Raises:
        SceneInputError: there is no format, or an unknown one.
        FormatUnavailable: a format needs a package that is not installed.
        OSError: the disk refuses.
    """
    for name in formats:
        check_format(name)
    if not formats:
        raise SceneInputError("expected at least one format, got none; tick what you want to download")
    scene_folder = folder / scene.folder.name
    if {*formats, RECORD} == set(SCENE_FORMATS):
        scene_folder.mkdir()
        files = [Path(shutil.copy(path, scene_folder)) for path in scene.files]
    else:
        files = write_scene(scene.result, scene_folder, sorted({*formats, RECORD}))
    for number, pair in enumerate(scene.pairs, start=1):
        files.append(scene_folder / f"labels_{number}.png")
        write_labels(pair.labels, files[-1])
    archive = folder / ZIP_FILE
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for path in files:
            target.write(path, path.name)
    return [*files, archive]


def scene_file(scene: MadeScene) -> Path:
    """The GLB file of a scene that was made."""
    return scene.folder / SCENE_FILE


def dump_input(images: SceneImages, root: Path) -> Path:
    """Copy the input of a scene into a folder of its own, in the form that `inference.py` reads.

    Returns:
        The folder: ``scene.jpg``, per object ``<k>.png`` and ``<k>_mask.png``, and ``masked_scene.png``.
    """
    folder = root / datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")
    folder.mkdir(parents=True)
    images.photo.save(folder / PHOTO_NAME, quality=95)
    for object_id, cutout, mask in zip(images.object_ids, images.cutouts, images.masks, strict=True):
        cutout.save(folder / cutout_name(object_id))
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / mask_name(object_id))
    union = np.any(np.stack(images.masks), axis=0)
    masked = np.asarray(images.photo) * union[..., None].astype(np.uint8)
    Image.fromarray(masked).save(folder / "masked_scene.png")
    return folder
