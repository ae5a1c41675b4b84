"""Pictures of each object: ``<k>_mask.png``, or the cut-out ``<k>.png``, or both, k = 0, 1, 2, ...

A mask is as large as the photo and above 0 on the object. A cut-out beside its mask may have any size; a
cut-out alone is as large as the photo, and its alpha is the mask. Cut-outs of one size need no photo: laid
over white they are the photo.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from scenegen.inputs.cutouts import OPAQUE_ALPHA, alpha_of, cut_out, has_alpha
from scenegen.inputs.form import Form, check_background
from scenegen.inputs.image_files import SceneInputError, open_image, over_background, size_text
from scenegen.inputs.names import PHOTO_NAMES, mask_name
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_images import SceneImages

_FILE = re.compile(r"(?P<stem>.+?)(?P<mask>_mask)?\.png", re.IGNORECASE)


@dataclass(frozen=True)
class _ObjectFiles:
    """The files of one object: at least one of both."""

    cutout: Path | None = None
    mask: Path | None = None


def _claims(name: str) -> bool:
    match = _FILE.fullmatch(name)
    return bool(match) and (match["mask"] is not None or match["stem"].isdecimal())


def _needs_photo(files: Sequence[Path]) -> bool:
    """Cut-outs alone show the scene, masks do not."""
    return any(_FILE.fullmatch(path.name)["mask"] for path in files)


def _read(photo: Image.Image | None, files: Sequence[Path], options: ReadOptions) -> SceneImages:
    """Read each object, in ascending order of the numbers in the file names."""
    objects = _by_number(files)
    if photo is None:
        photo = _photo_from_cutouts([each.cutout for each in objects.values()])
    cutouts, masks = zip(*(_read_object(each, photo) for each in objects.values()))
    return SceneImages(photo, cutouts, masks, tuple(objects))


def _by_number(files: Sequence[Path]) -> dict[int, _ObjectFiles]:
    """Bring the files of each object together: number -> files, ascending."""
    objects: dict[int, _ObjectFiles] = {}
    for path in files:
        match = _FILE.fullmatch(path.name)
        if not match["stem"].isdecimal():
            raise SceneInputError(
                f"{path}: expected a mask named <number>_mask.png, got {path.name!r}; rename it"
            )
        number = int(match["stem"])
        kind = "mask" if match["mask"] else "cutout"
        known = objects.get(number, _ObjectFiles())
        if (other := getattr(known, kind)) is not None:
            raise SceneInputError(
                f"{path}: expected one file for object {number}, found {other.name} too; remove one of them"
            )
        objects[number] = replace(known, **{kind: path})
    return dict(sorted(objects.items()))


def _photo_from_cutouts(paths: Sequence[Path]) -> Image.Image:
    """Lay cut-outs of one size over each other and over white."""
    photo = None
    for path in paths:
        cutout = open_image(path)
        if photo is None:
            photo = Image.new("RGBA", cutout.size, (255, 255, 255, 255))
        if cutout.size != photo.size:
            raise SceneInputError(
                f"{path}: expected a cut-out of {size_text(photo)} like {paths[0].name}, as there is no "
                f"photo, got {size_text(cutout)}; add {PHOTO_NAMES[0]} or save the cut-outs at the photo's "
                "size"
            )
        if not has_alpha(cutout):
            raise SceneInputError(
                f"{path}: expected a cut-out with transparency (RGBA), as there is no photo, got "
                f"{cutout.mode} without; add {PHOTO_NAMES[0]} or make the background transparent"
            )
        photo = Image.alpha_composite(photo, cutout.convert("RGBA"))
    return photo.convert("RGB")


def _read_object(files: _ObjectFiles, photo: Image.Image) -> tuple[Image.Image, np.ndarray]:
    """The cut-out (RGBA, any size) and the mask (H, W) bool of an object."""
    if files.cutout is None:
        mask = _read_mask(files.mask, photo)
        return cut_out(photo, mask), mask
    cutout = open_image(files.cutout)
    if files.mask is None:
        mask = _mask_from_alpha(files.cutout, cutout, photo)
    else:
        mask = _read_mask(files.mask, photo)
    return _with_alpha(files.cutout, cutout, mask), mask


def _read_mask(path: Path, photo: Image.Image) -> np.ndarray:
    """Read an object's mask: (H, W) bool, true where any colour shows over black."""
    image = open_image(path)
    if image.size != photo.size:
        raise SceneInputError(
            f"{path}: expected a mask of {size_text(photo)} like the photo, got {size_text(image)}; "
            "save the mask at full photo size"
        )
    mask = np.asarray(over_background(image, 0).convert("L")) > 0
    if not mask.any():
        raise SceneInputError(f"{path}: expected pixels above 0 on the object, the mask is empty; redraw it")
    check_background(path, mask)
    return mask


def _mask_from_alpha(path: Path, cutout: Image.Image, photo: Image.Image) -> np.ndarray:
    """Take the mask from a full-size cut-out's alpha when the mask file is missing."""
    missing = mask_name(path.stem)
    if cutout.size != photo.size or not has_alpha(cutout):
        raise SceneInputError(
            f"{path}: expected {missing} beside it (or a cut-out with transparency and the photo's size "
            f"{size_text(photo)}), got only {cutout.mode} of {size_text(cutout)}; add {missing}"
        )
    return alpha_of(cutout) > 0


def _with_alpha(path: Path, cutout: Image.Image, mask: np.ndarray) -> Image.Image:
    """Return the cut-out as RGBA with the object's outline in its alpha."""
    if has_alpha(cutout):
        if alpha_of(cutout).max() <= OPAQUE_ALPHA:
            raise SceneInputError(
                f"{path}: expected opaque pixels (alpha above {OPAQUE_ALPHA}), found none; redraw the cut-out"
            )
        return cutout.convert("RGBA")
    if (cutout.height, cutout.width) != mask.shape:
        raise SceneInputError(
            f"{path}: expected a cut-out with transparency (RGBA), got {cutout.mode} without; "
            "make the background transparent"
        )
    cutout = cutout.convert("RGB")
    cutout.putalpha(Image.fromarray(mask.astype(np.uint8) * 255))
    return cutout


FORM = Form(title="<k>_mask.png files", claims=_claims, read=_read, needs_photo=_needs_photo)
