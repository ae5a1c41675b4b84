"""Names of the files and folders of a scene, for those who read scenes and those who write them."""

from __future__ import annotations

import re
from pathlib import Path

PHOTO_NAME = "scene.jpg"
LABELS_NAME = "labels.png"
MASKS_NAME = "masks.npy"
BOXES_NAME = "boxes.json"
MASKS_FOLDER = "masks"

PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff", ".bmp", ".gif")
)
"""Of pictures, in small letters. The content tells what a picture is; its suffix may be another one's."""

_PHOTO_STEMS = {"scene", "image", "rgb"}
_LABEL_STEMS = {"labels", "label", "seg", "segmentation", "mask", "rgb_mask"}
_PHOTO_END, _LABELS_END = "_rgb", "_seg"  # of a photo and its label image that lie beside others
_JUNK = {"__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"}
_VIEW_FOLDER = re.compile(r"view_\d+")


def cutout_name(object_id: int | str) -> str:
    """Name of the cut-out of an object."""
    return f"{object_id}.png"


def mask_name(object_id: int | str) -> str:
    """Name of the mask of an object."""
    return f"{object_id}_mask.png"


def is_picture_name(name: str) -> bool:
    """Whether a file of this name is a picture, in any case: cameras write .JPG."""
    return Path(name).suffix.lower() in PICTURE_SUFFIXES


def is_photo_name(name: str) -> bool:
    """Whether a picture of this name is the photo of a scene, in any case."""
    stem = Path(name).stem.lower()
    return is_picture_name(name) and (stem in _PHOTO_STEMS or stem.endswith(_PHOTO_END))


def is_labels_name(name: str) -> bool:
    """Whether a picture of this name is the label image of a scene, in any case."""
    stem = Path(name).stem.lower()
    return is_picture_name(name) and (stem in _LABEL_STEMS or stem.endswith(_LABELS_END))


def labels_stem_of(photo_name: str) -> str | None:
    """Stem, in small letters, of the label image that belongs to a photo such as ``04_rgb.png``, if any."""
    stem = Path(photo_name).stem.lower()
    return stem[: -len(_PHOTO_END)] + _LABELS_END if stem.endswith(_PHOTO_END) else None


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or one that an operating system leaves in archives and folders."""
    return name.startswith(".") or name.lower() in _JUNK


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
