"""Names of the files and folders of a scene, for those who read scenes and those who write them."""

from __future__ import annotations

import re
from pathlib import Path

PHOTO_NAMES = ("scene.jpg", "scene.jpeg", "scene.png")
LABELS_NAME = "labels.png"
MASKS_NAME = "masks.npy"
BOXES_NAME = "boxes.json"

_VIEW_FOLDER = re.compile(r"view_\d+")


def cutout_name(object_id: int | str) -> str:
    """Name of the cut-out of an object."""
    return f"{object_id}.png"


def mask_name(object_id: int | str) -> str:
    """Name of the mask of an object."""
    return f"{object_id}_mask.png"


def is_photo_name(name: str) -> bool:
    """Whether a file of this name is the photo of a scene, in any case: cameras write .JPG."""
    return name.lower() in PHOTO_NAMES


def is_view_name(name: str) -> bool:
    """Whether a folder of this name holds one of several photos of a scene."""
    return _VIEW_FOLDER.fullmatch(name) is not None


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which ``10`` comes after ``9``; numbers come before text."""
    parts = [part for part in re.split(r"(\d+)", name) if part]
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def scene_id_of(path: Path) -> str:
    """The name of a scene: that of its photo, or of its folder, also when given as ``.`` or by a link."""
    return path.stem if path.is_file() else path.resolve().name
