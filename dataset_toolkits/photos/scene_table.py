"""The table of scenes of a set, put together from what came of its photos."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dataset_toolkits.photos.photo_maker import PhotoJob, PhotoRows
from dataset_toolkits.photos.rows import AssetIndex, grouped, statistics_text
from dataset_toolkits.photos.set_paths import SetPaths
from scenegen.batch.engines.tasks import Task, TaskRecord
from scenegen.datasets.annotations import AnnotatedPhoto
from scenegen.datasets.furniture_ids import check_rows
from scenegen.datasets.metadata import AssetRow, SceneRow, read_scenes, write_scenes
from scenegen.datasets.model_boxes import ModelBoxes
from trellis_modules.files import atomic_write_text

logger = logging.getLogger(__name__)


@dataclass
class SceneTable:
    """Rows of a set by scene, and what went wrong.

    Attributes:
        paths: the set.
        assets: which assets there are.
        boxes: of the models of the photos.
        order: scenes in their order.
        flush_every: photos between two writes of the table.
        rows: by scene id.
        left_out: annotations that were left out, by reason.
    """

    paths: SetPaths
    assets: Sequence[AssetRow]
    boxes: ModelBoxes
    order: Sequence[str]
    flush_every: int = 100
    rows: dict[str, list[SceneRow]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._index, self._num_made = AssetIndex(self.assets), 0
        self._places = {name: place for place, name in enumerate(self.order)}
        self._failed: dict[str, dict[str, str]] = {}
        if self.paths.table.is_file():
            earlier = read_scenes(self.paths.table, lambda error: logger.warning("%s", error))
            found = grouped(earlier).items()
            self.rows = {name: [self._index.joined(row) for row in rows] for name, rows in found}

    @property
    def failed(self) -> dict[str, str]:
        """Reasons by photo or annotation: those of no photo first, then in the order of the photos."""
        names = sorted(self._failed, key=lambda name: self._places.get(name, -1))
        return {item: reason for name in names for item, reason in self._failed[name].items()}

    def task(self, photo: AnnotatedPhoto) -> Task:
        """What is to be made of a photo."""
        models = photo.models()
        assets = [self._index.by_model[model] for model in models if model in self._index.by_model]
        earlier = tuple(self.rows.get(photo.file_name, ()))
        job = PhotoJob(photo, tuple(assets), self.boxes.of(models), earlier)
        return Task(photo.file_name, job)

    def add(self, record: TaskRecord) -> None:
        """Take what came of a photo or an asset alone; what is wrong is named and counted."""
        found = record.value or PhotoRows((), is_made=False)
        for fault in found.faults:
            self.fail(fault.item, fault.reason, record.id)
        self.left_out.update(found.left_out)
        self.rows.pop(record.id, None)
        if record.error is not None:
            self.fail(record.id, record.error, record.id)
        elif found.rows:
            self.rows[record.id] = list(found.rows)
        self._num_made += found.is_made

    def fail(self, item: str, reason: str, photo: str = "") -> None:
        """Name and count what could not be made, of a photo or of none."""
        self._failed.setdefault(photo, {})[item] = reason
        logger.warning("%s: %s: %s", self.paths.annotations, item, reason)

    def write(self) -> None:
        """Write the table and its counts: scenes that ``order`` does not have first, then in its order.

        Raises:
            SplitError: furniture of another split than the set.
        """
        names = sorted(self.rows, key=lambda name: self._places.get(name, -1))  # stable
        rows = [row for name in names for row in self.rows[name]]
        check_rows(rows, self.paths.name)
        write_scenes(rows, self.paths.table)
        atomic_write_text(self.paths.statistics, statistics_text(rows))

    def due(self) -> bool:
        """Whether enough photos were made since the last time to write the table."""
        is_due = self._num_made >= self.flush_every
        self._num_made = 0 if is_due else self._num_made
        return is_due
