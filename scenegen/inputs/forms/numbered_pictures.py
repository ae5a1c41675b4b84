"""Pictures of each object: its mask, its cut-out or both, numbered or named.

Masks are called ``<k>_mask.png``, ``mask_<k>.png`` or, beside a photo, ``<k>.png`` where it is black and
white; a word in place of the number k gives the next free number. A mask is as large as the photo, and its
object is what is brighter than half. A cut-out ``<k>.png`` beside its mask may have any size; a cut-out alone
is as large as the photo, and its alpha is the mask. Cut-outs of one size need no photo: laid over white they
are the photo. Any kind of picture will do.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from scenegen.inputs.cutouts import OPAQUE_ALPHA, alpha_of, has_alpha
from scenegen.inputs.form import Form
from scenegen.inputs.image_files import SceneInputError, open_image, over_background, size_text, to_8_bits
from scenegen.inputs.names import PHOTO_NAME, is_labels_name, is_photo_name, is_picture_name, mask_name
from scenegen.inputs.objects import FoundObject, usable_objects
from scenegen.inputs.photos import ScenePhoto
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_images import SceneImages
from scenegen.inputs.soft_masks import inside_of, is_black_and_white

logger = logging.getLogger(__name__)

_MASK = re.compile(r"(?P<before>.+?)[_-]mask|mask[_-]?(?P<after>\d+)|mask[_-](?P<word>.+)", re.IGNORECASE)


@dataclass(frozen=True)
class _ObjectFiles:
    """The files of one object: at least one of both."""

    cutout: Path | None = None
    mask: Path | None = None


def _claims(name: str) -> bool:
    if not is_picture_name(name) or is_labels_name(name) or is_photo_name(name):
        return False
    stem = Path(name).stem
    return stem.isdecimal() or _MASK.fullmatch(stem) is not None


def _mask_key(path: Path) -> str | None:
    """Number or word that names the object of a mask; None for a cut-out."""
    match = _MASK.fullmatch(path.stem)
    return match and (match["before"] or match["after"] or match["word"])


def _needs_photo(files: Sequence[Path]) -> bool:
    """Cut-outs alone show the scene, masks do not."""
    return any(_mask_key(path) is not None for path in files)


def _read(photo: ScenePhoto | None, files: Sequence[Path], options: ReadOptions) -> SceneImages:
    """Read each object, in ascending order of the numbers in the file names."""
    objects = _by_number(files)
    if photo is None:
        photo = ScenePhoto(_photo_from_cutouts([each.cutout for each in objects.values()]))
    found = [_read_object(number, each, photo) for number, each in objects.items()]
    return usable_objects(photo.image, found, options, files[0].parent)


def _by_number(files: Sequence[Path]) -> dict[int, _ObjectFiles]:
    """Bring the files of each object together: number -> files, ascending."""
    objects: dict[int, _ObjectFiles] = {}
    for number, kind, path in _with_numbers(files):
        known = objects.get(number, _ObjectFiles())
        if (other := getattr(known, kind)) is not None:
            raise SceneInputError(
                f"{path}: expected one file for object {number}, found {other.name} too; remove one of them"
            )
        objects[number] = replace(known, **{kind: path})
    return dict(sorted(objects.items()))


def _with_numbers(files: Sequence[Path]) -> Iterator[tuple[int, str, Path]]:
    """Number of the object, "mask" or "cutout", and path of each file; words get the next free numbers."""
    keys = [(_mask_key(path) or path.stem, "mask" if _mask_key(path) else "cutout", path) for path in files]
    used = {int(key) for key, _, _ in keys if key.isdecimal()}
    words: dict[str, int] = {}
    for key, _, path in keys:
        if not key.isdecimal() and key not in words:
            words[key] = next(number for number in range(len(keys)) if number not in used)
            used.add(words[key])
            logger.info("%s: object %d", path, words[key])
    for key, kind, path in keys:
        yield int(key) if key.isdecimal() else words[key], kind, path


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
                f"photo, got {size_text(cutout)}; add {PHOTO_NAME} or save the cut-outs at the photo's "
                "size"
            )
        if not has_alpha(cutout):
            raise SceneInputError(
                f"{path}: expected a cut-out with transparency (RGBA), as there is no photo, got "
                f"{cutout.mode} without; add {PHOTO_NAME} or make the background transparent"
            )
        photo = Image.alpha_composite(photo, cutout.convert("RGBA"))
    return photo.convert("RGB")


def _read_object(number: int, files: _ObjectFiles, photo: ScenePhoto) -> FoundObject:
    if files.cutout is None:
        return FoundObject(number, files.mask, read_mask(files.mask, photo))
    cutout = to_8_bits(files.cutout, open_image(files.cutout))
    if files.mask is not None:
        mask = read_mask(files.mask, photo)
        cutout, problem = _with_alpha(files.cutout, cutout, mask)
        return FoundObject(number, files.cutout if problem else files.mask, mask, cutout, problem)
    if not has_alpha(cutout) and is_black_and_white(np.asarray(cutout.convert("RGB"))):
        return FoundObject(number, files.cutout, _as_mask(photo.lay_on(files.cutout, cutout, "a mask")))
    mask = _mask_from_alpha(files.cutout, cutout, photo)
    cutout, problem = _with_alpha(files.cutout, cutout, mask)
    return FoundObject(number, files.cutout, mask, cutout, problem)


def read_mask(path: Path, photo: ScenePhoto) -> np.ndarray:
    """Read an object's mask: (H, W) bool, true where it is brighter than half over black."""
    return _as_mask(photo.lay_on(path, to_8_bits(path, open_image(path)), "a mask"))


def _as_mask(image: Image.Image) -> np.ndarray:
    return inside_of(np.asarray(over_background(image, 0).convert("RGB")).max(axis=-1))


def _mask_from_alpha(path: Path, cutout: Image.Image, photo: ScenePhoto) -> np.ndarray:
    """Take the mask from a full-size cut-out's alpha when the mask file is missing."""
    missing = mask_name(path.stem)
    if cutout.size != photo.size or not has_alpha(cutout):
        raise SceneInputError(
            f"{path}: expected {missing} beside it (or a cut-out with transparency and the photo's size "
            f"{size_text(photo.image)}), got only {cutout.mode} of {size_text(cutout)}; add {missing}"
        )
    return inside_of(alpha_of(cutout))


def _with_alpha(path: Path, cutout: Image.Image, mask: np.ndarray) -> tuple[Image.Image, str | None]:
    """The cut-out as RGBA with the object's outline in its alpha, and why it cannot be used, if so.

    Raises:
        SceneInputError: it has no outline.
    """
    if has_alpha(cutout):
        opaque = alpha_of(cutout).max() > OPAQUE_ALPHA
        problem = f"expected opaque pixels (alpha above {OPAQUE_ALPHA}), found none; redraw the cut-out"
        return cutout.convert("RGBA"), None if opaque else problem
    if (cutout.height, cutout.width) != mask.shape:
        raise SceneInputError(
            f"{path}: expected a cut-out with transparency (RGBA), got {cutout.mode} without; "
            "make the background transparent"
        )
    cutout = cutout.convert("RGB")
    cutout.putalpha(Image.fromarray(mask.astype(np.uint8) * 255))
    return cutout, None


FORM = Form(title="<k>_mask.png files", claims=_claims, read=_read, needs_photo=_needs_photo)
