"""The table of scenes of a set, made photo by photo: pictures, geometry features and rows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from dataset_toolkits.photos.geometry_features import FEATURE_KEY, GeometryFeatures
from dataset_toolkits.photos.rows import (
    AssetIndex,
    asset_row,
    grouped,
    missing_files,
    scene_rows,
    statistics_text,
)
from dataset_toolkits.photos.set_paths import SetPaths
from safe_files.arrays import read_archive
from safe_files.pictures import read_picture
from safe_files.regular import UnreadableFile
from scenegen.datasets.annotations import AnnotatedPhoto, KeptObjects, kept_objects
from scenegen.datasets.furniture_ids import check_rows
from scenegen.datasets.metadata import AssetRow, SceneRow, read_scenes, write_scenes
from scenegen.datasets.model_boxes import ModelBoxes
from scenegen.inputs.names import cutout_name, mask_name
from scenegen.synthesis.pictures.scene_writer import write_object_images
from trellis_modules.files import atomic_write_text

logger = logging.getLogger(__name__)


class PhotoError(ValueError):
    """A photo is missing, cannot be read, or does not fit its annotations."""


@dataclass
class SceneTable:
    """Rows of a set by scene, and what went wrong.

    Attributes:
        paths: the set.
        assets: which assets there are.
        with_masks: whether masks are written beside the cut-outs.
        features: makes geometry features.
        flush_every: photos between two writes of the table.
        rows: by scene id.
        failed: reasons by photo or annotation.
        left_out: annotations that were left out, by reason.
    """

    paths: SetPaths
    assets: Sequence[AssetRow]
    with_masks: bool
    features: GeometryFeatures
    flush_every: int = 100
    rows: dict[str, list[SceneRow]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._index, self._boxes = AssetIndex(self.assets), ModelBoxes(self.paths.root)
        self._num_made = 0
        if self.paths.table.is_file():
            earlier = read_scenes(self.paths.table, lambda error: logger.warning("%s", error))
            found = grouped(earlier).items()
            self.rows = {name: [self._index.joined(row) for row in rows] for name, rows in found}

    def add_photo(self, photo: AnnotatedPhoto) -> None:
        """Make everything of one photo unless an earlier run did; what is wrong is named and counted.

        Raises:
            OSError: the disk refuses to be written to.
            SplitError: its furniture is of another split than the set.
        """
        kept = kept_objects(photo, self._boxes.box)
        for fault in kept.faults:
            self.fail(fault.item, fault.reason)
        self.left_out.update(kept.left_out)
        rows, without = scene_rows(photo.file_name, kept.objects, self._index, self._boxes, self.paths)
        self.left_out.update(["no asset of the model"] * len(without))
        check_rows(rows, self.paths.name)
        earlier = self.rows.pop(photo.file_name, [])
        try:
            if earlier != rows or not self._has_files(photo, kept, rows):
                self._make_files(photo, kept, rows)
                self._num_made += 1
        except PhotoError as error:
            self.fail(photo.file_name, str(error))
            return
        if rows:
            self.rows[photo.file_name] = rows

    def add_asset(self, asset: AssetRow) -> None:
        """Make the row of an asset alone, and the geometry feature of its picture."""
        try:
            row = asset_row(asset, self.paths)
            feature = self.paths.root / row.vggt_feature
            if not has_feature(feature):
                self.features.write(_open(self.paths.root / row.scene_image_path), feature)
        except (PhotoError, FileNotFoundError) as error:
            self.fail(asset.sha256, str(error))
            return
        self.rows[asset.sha256] = [row]
        self._num_made += 1

    def fail(self, item: str, reason: str) -> None:
        """Name and count what could not be made."""
        self.failed[item] = reason
        logger.warning("%s: %s: %s", self.paths.annotations, item, reason)

    def write(self, order: Sequence[str]) -> None:
        """Write the table and its counts: scenes that ``order`` does not have first, then in its order.

        Raises:
            SplitError: furniture of another split than the set.
        """
        places = {name: place for place, name in enumerate(order)}
        names = sorted(self.rows, key=lambda name: places.get(name, -1))  # stable
        rows = [row for name in names for row in self.rows[name]]
        check_rows(rows, self.paths.name)
        write_scenes(rows, self.paths.table)
        self._boxes.save()
        atomic_write_text(self.paths.statistics, statistics_text(rows))

    def due(self) -> bool:
        """Whether enough photos were made since the last time to write the table."""
        is_due = self._num_made >= self.flush_every
        self._num_made = 0 if is_due else self._num_made
        return is_due

    def _has_files(self, photo: AnnotatedPhoto, kept: KeptObjects, rows: Sequence[SceneRow]) -> bool:
        """Whether an earlier run made all files of the photo."""
        folder = self.paths.root / self.paths.masked_images(photo.file_name)
        names = [cutout_name(item.instance_id) for item in kept.objects]
        names += [mask_name(item.instance_id) for item in kept.objects if self.with_masks]
        return not missing_files(self.paths.root, rows) and all((folder / name).is_file() for name in names)

    def _make_files(self, photo: AnnotatedPhoto, kept: KeptObjects, rows: Sequence[SceneRow]) -> None:
        """Pictures and feature of one photo; nothing for one without a kept object."""
        if not kept.objects:
            return
        picture = read_photo(self.paths.photo(photo.file_name), photo)
        masks = [item.mask for item in kept.objects]
        folder = self.paths.root / self.paths.masked_images(photo.file_name)
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_object_images(np.asarray(picture), masks, folder, self.with_masks)
        feature = self.paths.root / self.paths.vggt_feature(photo.file_name)
        if rows and not has_feature(feature):
            self.features.write(picture, feature)


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
