"""What a scene is made from: its photo, masks and settings, by which a finished scene is known again.

The record of a scene keeps this, so that a photo of the same name as an earlier one, or another seed, is not
taken for the scene that is there already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scenegen.hub.digest import file_sha256
from scenegen.inputs.label_image import is_as_written
from scenegen.inputs.layout import InputPhoto, InputScene
from trellis_modules.config import to_json

ORIGIN_KEY = "made_from"
"""Of the record of a scene."""

_FILES, _SETTINGS = "files", "settings"
_PHOTO, _MASKS, _BOXES = "photo", "masks", "boxes"


@dataclass(frozen=True)
class Origin:
    """What decides over a scene.

    Attributes:
        files: sha256 of each file that is read, by its part: "photo", "masks/0_mask.png", "boxes", those of
            several photos below "view_0/" and so on.
        settings: what else decides, as JSON types, by names for messages.
    """

    files: Mapping[str, str]
    settings: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """As it stands in the record of a scene, under `ORIGIN_KEY`."""
        return {_FILES: dict(self.files), _SETTINGS: dict(self.settings)}

    def changes_from(self, record: Mapping[str, Any]) -> list[str]:
        """How this differs from what an earlier run noted, in words; nothing where it noted nothing.

        Settings that only one of the two knows do not count: they are of another version of this project.

        Args:
            record: of the finished scene.
        """
        earlier = record.get(ORIGIN_KEY)
        if not isinstance(earlier, dict):
            return []
        files, settings = earlier.get(_FILES), earlier.get(_SETTINGS)
        if not isinstance(files, dict) or not isinstance(settings, dict):
            return []
        differing = {name for name in {*files, *self.files} if files.get(name) != self.files.get(name)}
        kinds = {_PHOTO: "another photo", _MASKS: "other masks", _BOXES: "other boxes"}
        words = [
            text for kind, text in kinds.items() if any(kind in name.split("/")[:2] for name in differing)
        ]
        common = [name for name in settings if name in self.settings]
        if changed := sorted(name for name in common if settings[name] != self.settings[name]):
            words.append(f"other settings ({', '.join(changed)})")
        return words


def origin_of(
    scene: InputScene, found: Path, settings: Mapping[str, Any], segmenter: Mapping[str, Any]
) -> Origin:
    """Look at everything that a scene will be made from.

    Args:
        scene: its files, without a fault.
        found: folder of its masks that are found; label images there count where a person corrected them.
        settings: as JSON types, by names for messages.
        segmenter: likewise, of what finds masks; counts where masks have to be found.

    Raises:
        OSError: a file cannot be read.
        UnreadableFile: it is no regular file.
    """
    files: dict[str, str] = {}
    for photo in scene.photos:
        prefix = f"{photo.view}/" if photo.view else ""
        files |= {prefix + part: file_sha256(path) for part, path in _parts(photo, found)}
    if any(photo.form is None for photo in scene.photos):
        settings = {**settings, **segmenter}
    return Origin(files, to_json(settings))


def as_settings(value: Any, without: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of a dataclass as JSON types, those of dataclasses in it as ``outer.inner``."""
    named: dict[str, Any] = {}
    for field in fields(value):
        if field.name in without:
            continue
        item = getattr(value, field.name)
        if is_dataclass(item):
            named[field.name] = type(item).__name__
            named |= {f"{field.name}.{name}": inner for name, inner in as_settings(item).items()}
        elif isinstance(item, Tensor):
            named[field.name] = hashlib.sha256(item.cpu().contiguous().numpy().tobytes()).hexdigest()
        else:
            named[field.name] = dict(item) if isinstance(item, Mapping) else item
    return named


def _parts(photo: InputPhoto, found: Path) -> Iterator[tuple[str, Path]]:
    """The files of one photo, by what they are."""
    if photo.photo is not None:
        yield _PHOTO, photo.photo
    for path in photo.files:
        yield f"{_MASKS}/{path.name}", path
    if photo.boxes is not None:
        yield _BOXES, photo.boxes
    if photo.form is None:
        labels = photo.found_labels(found)
        if labels.is_file() and not is_as_written(labels):
            yield f"{_MASKS}/{labels.name}", labels
