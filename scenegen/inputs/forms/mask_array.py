"""One array file of masks: ``masks.npy`` or ``masks.npz``, one mask per object or one label per pixel."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from safe_files.arrays import read_archive, read_array_file
from safe_files.regular import UnreadableFile, open_regular
from scenegen.inputs.form import Form
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.mask_arrays import masks_of
from scenegen.inputs.names import MASKS_NAME
from scenegen.inputs.objects import numbered, usable_objects
from scenegen.inputs.photos import ScenePhoto
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_images import SceneImages

logger = logging.getLogger(__name__)

_SUFFIXES = (".npy", ".npz")
_MEMBERS = ("masks", "mask", "labels", "segmentation", "arr_0")
"""Names under which programs save masks; where an archive has several arrays, the first of these counts."""


def _claims(name: str) -> bool:
    path = Path(name.lower())
    return path.stem == Path(MASKS_NAME).stem and path.suffix in _SUFFIXES


def _read(photo: ScenePhoto, files: Sequence[Path], options: ReadOptions) -> SceneImages:
    """Read one mask per object, numbered as in the array, or in ascending order of its labels."""
    path = files[0]
    array = _read_numbers(path)
    masks, said = masks_of(array, photo, path, options)
    if said:
        logger.info("%s: %s", path, said)
    return usable_objects(photo.image, numbered(path, masks), options, path)


def _read_numbers(path: Path) -> np.ndarray:
    try:
        with open_regular(path) as file:
            is_archive = file.read(4) == b"PK\x03\x04"
        return _read_archive(path) if is_archive else read_array_file(path)
    except (OSError, UnreadableFile) as error:
        raise SceneInputError(
            f"{path}: expected an array file of numbers, reading stopped ({error}); save it with numpy.save"
        ) from error


def _read_archive(path: Path) -> np.ndarray:
    """The masks in an archive, one array or one array a mask."""
    arrays = list(read_archive(path, _chosen).values())
    if len({array.shape for array in arrays}) > 1:
        raise UnreadableFile(
            f"expected arrays of one shape, got {', '.join(str(a.shape) for a in arrays[:9])}"
        )
    return arrays[0] if len(arrays) == 1 else np.stack(arrays)


def _chosen(names: list[str]) -> list[str]:
    """The one array, the one with a name that programs use, or one array a mask."""
    if not names:
        raise UnreadableFile("expected an array in the archive, found none")
    if len(names) == 1:
        return names
    if all(name.startswith("arr_") for name in names):
        return sorted(names, key=lambda name: (len(name), name))
    if (known := next((name for name in _MEMBERS if name in names), None)) is not None:
        return [known]
    raise UnreadableFile(
        f"expected an array named {_MEMBERS[0]!r} among several, found {', '.join(sorted(names)[:9])}"
    )


FORM = Form(title=MASKS_NAME, claims=_claims, read=_read, suffixes=_SUFFIXES, is_one_file=True)
