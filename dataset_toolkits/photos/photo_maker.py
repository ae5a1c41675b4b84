"""What a set has of one photo or one asset alone: pictures, geometry feature and rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dataset_toolkits.photos.geometry_features import FEATURE_KEY, GeometryFeatures
from dataset_toolkits.photos.rows import AssetIndex, asset_row, scene_rows
from dataset_toolkits.photos.set_paths import RENDERS_COND, SetPaths
from safe_files.arrays import read_archive
from safe_files.pictures import read_picture
from safe_files.regular import UnreadableFile
from scenegen.batch.engines.tasks import TaskResult
from scenegen.datasets.annotations import AnnotatedPhoto, Fault, KeptObjects, kept_objects
from scenegen.datasets.furniture_ids import check_rows
from scenegen.datasets.metadata import AssetRow, SceneRow
from scenegen.datasets.model_boxes import ModelBox, ModelBoxes, ModelFileError
from scenegen.inputs.names import cutout_name, mask_name
from scenegen.stores.root_files import RootFiles
from scenegen.synthesis.pictures.scene_writer import write_object_images


class PhotoError(ValueError):
    """A photo is missing, cannot be read, or does not fit its annotations."""


@dataclass(frozen=True)
class PhotoJob:
    """A photo to make everything of, and what has to be known for it; can be pickled.

    Attributes:
        photo: with its annotations.
        assets: those of its models, the first of each model.
        boxes: of its models, or why there is none.
        earlier: rows that an earlier run wrote, with the present columns of their assets.
    """

    photo: AnnotatedPhoto
    assets: tuple[AssetRow, ...]
    boxes: Mapping[str, ModelBox | ModelFileError]
    earlier: tuple[SceneRow, ...] = ()


@dataclass(frozen=True)
class PhotoRows:
    """The rows of a photo or of an asset alone; can be pickled.

    Attributes:
        rows: for the table.
        faults: of annotations.
        left_out: objects that have no row, by reason.
        is_made: whether files were made in this run.
    """

    rows: tuple[SceneRow, ...]
    faults: tuple[Fault, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    is_made: bool = True


@dataclass(frozen=True)
class PhotoMaker:
    """Makes what a set has of photos and of assets alone.

    Attributes:
        set_name: train or test.
        with_masks: whether masks are written beside the cut-outs.
        features: makes geometry features.
    """

    set_name: str
    with_masks: bool
    features: GeometryFeatures

    @classmethod
    def load(cls, set_name: str, with_masks: bool, checkpoint: Path, device: torch.device) -> PhotoMaker:
        """Load the geometry encoder; errors as for `GeometryFeatures`."""
        return cls(set_name, with_masks, GeometryFeatures(checkpoint, device))

    def __call__(self, files: RootFiles, job: PhotoJob | AssetRow) -> TaskResult:
        """What came of a photo or an asset alone, as `PhotoRows`; what is wrong with it is the error.

        Raises:
            OSError: the disk refuses to be written to.
            SplitError: its furniture is of another split than the set.
        """
        if isinstance(job, AssetRow):
            return self._asset(files, job)
        paths = SetPaths(files.root, self.set_name)
        boxes, index = ModelBoxes(files.root, job.boxes), AssetIndex(job.assets)
        kept = kept_objects(job.photo, boxes.box)
        rows, without = scene_rows(job.photo.file_name, kept.objects, index, boxes, paths)
        left_out = Counter(kept.left_out) + Counter({"no asset of the model": len(without)})
        check_rows(rows, self.set_name)
        is_made = list(job.earlier) != rows or not self._has_files(files, job.photo, kept, rows)
        found = PhotoRows(tuple(rows), tuple(kept.faults), left_out, is_made)
        try:
            if is_made:
                self._make_files(files, job.photo, kept, rows)
        except PhotoError as error:
            return TaskResult(PhotoRows((), found.faults, left_out, False), files.told(str(error)))
        return TaskResult(found)

    def _asset(self, files: RootFiles, asset: AssetRow) -> TaskResult:
        """The row of an asset alone, and the geometry feature of its picture."""
        paths = SetPaths(files.root, self.set_name)
        try:
            row = asset_row(asset, paths, files.states(f"{RENDERS_COND}/{asset.sha256}"))
            feature = row.vggt_feature
            if not self._has_feature(files, feature):
                with files.here([row.scene_image_path], [feature]):
                    self.features.write(_open(files.root / row.scene_image_path), files.root / feature)
        except (PhotoError, FileNotFoundError) as error:
            return TaskResult(error=files.told(str(error)))
        return TaskResult(PhotoRows((row,)))

    def _has_files(
        self, files: RootFiles, photo: AnnotatedPhoto, kept: KeptObjects, rows: Sequence[SceneRow]
    ) -> bool:
        """Whether an earlier run made all files of the photo."""
        folder = SetPaths(files.root, self.set_name).masked_images(photo.file_name)
        names = [cutout_name(item.instance_id) for item in kept.objects]
        names += [mask_name(item.instance_id) for item in kept.objects if self.with_masks]
        named = [f"{folder}/{name}" for name in names]
        named += [
            name for row in rows for name in (row.vggt_feature, row.masked_image_path, row.scene_image_path)
        ]
        there = files.states(folder, *dict.fromkeys(row.vggt_feature for row in rows))
        return all(name in there for name in named if name)

    def _make_files(
        self, files: RootFiles, photo: AnnotatedPhoto, kept: KeptObjects, rows: Sequence[SceneRow]
    ) -> None:
        """Pictures and feature of one photo; nothing for one without a kept object."""
        if not kept.objects:
            return
        paths = SetPaths(files.root, self.set_name)
        masks = [item.mask for item in kept.objects]
        images, feature = paths.masked_images(photo.file_name), paths.vggt_feature(photo.file_name)
        lacks_feature = bool(rows) and not self._has_feature(files, feature)
        source = paths.photo(photo.file_name)
        outputs = [images, feature] if lacks_feature else [images]
        with files.here([source.relative_to(files.root).as_posix()], outputs):
            picture = read_photo(source, photo)
            folder = files.root / images
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_object_images(np.asarray(picture), masks, folder, self.with_masks)
            if lacks_feature:
                self.features.write(picture, files.root / feature)

    @staticmethod
    def _has_feature(files: RootFiles, name: str) -> bool:
        """Whether a geometry feature is there, and whole where it is on the disk; in a store it always is."""
        return bool(files.states(name)) and (files.is_stored or has_feature(files.root / name))


def read_photo(path: Path, photo: AnnotatedPhoto) -> Image.Image:
    """Read a photo as RGB.

    Raises:
        PhotoError: it is missing, cannot be read, or has another size than its annotations say.
    """
    picture = _open(path)
    if picture.size != (photo.width, photo.height):
        raise PhotoError(
            f"{path}: expected {photo.width} x {photo.height} pixels as {photo.source} says, got "
            f"{picture.width} x {picture.height}; place the right photo"
        )
    return picture.convert("RGB")


def has_feature(path: Path) -> bool:
    """Whether a geometry feature is there and whole."""
    try:
        return read_archive(path, lambda names: [FEATURE_KEY] * (FEATURE_KEY in names))[FEATURE_KEY].ndim == 3
    except (OSError, UnreadableFile, KeyError):
        return False


def _open(path: Path) -> Image.Image:
    try:
        return read_picture(path)
    except FileNotFoundError as error:
        raise PhotoError(f"{path}: no such picture; place it there") from error
    except (OSError, UnreadableFile) as error:
        raise PhotoError(f"{path}: expected a readable picture, got {error}; place it again") from error
