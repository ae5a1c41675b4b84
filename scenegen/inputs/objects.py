"""The objects of a photo from their masks: those that can be used, and why others are left out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from scenegen.inputs.cutouts import cut_out
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.limits import MIN_MASK_PX
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_images import SceneImages

logger = logging.getLogger(__name__)

_LARGE = 0.6  # of the photo; with the border covered, the mask looks as if object and background were swapped
_BORDER = 0.95  # of the border's pixels


@dataclass(frozen=True)
class FoundObject:
    """One object as a form gives it.

    Attributes:
        number: see `SceneImages.object_ids`.
        where: begins messages about it: the file, and what tells the object apart in it.
        mask: (H, W) bool in the photo.
        cutout: RGBA of any size; None where it is to be cut out of the photo.
        problem: why it cannot be used, if the form knows a reason.
    """

    number: int
    where: Path | str
    mask: np.ndarray
    cutout: Image.Image | None = None
    problem: str | None = None


def numbered(where: Path | str, masks: Sequence[np.ndarray], what: str = "mask") -> list[FoundObject]:
    """Objects from masks (H, W) bool in one file, numbered in their order."""
    return [FoundObject(index, f"{where}: {what} {index}", mask) for index, mask in enumerate(masks)]


def usable_objects(
    photo: Image.Image, found: Sequence[FoundObject], options: ReadOptions, where: Path | str
) -> SceneImages:
    """The photo with the objects whose masks can be used; the others are left out, with a warning each.

    Args:
        photo: RGB.
        found: at least one.
        options: whether an unusable mask is a fault of the scene, and what becomes of a mask that looks
            inverted.
        where: begins the message if no object is left.

    Raises:
        SceneInputError: no object can be used; or one cannot, and `ReadOptions.strict` is set.
    """
    used: list[FoundObject] = []
    left_out: dict[int, str] = {}
    for each in found:
        mask = ~each.mask if options.inverted == "invert" and _looks_inverted(each.mask) else each.mask
        problem = each.problem or problem_of(mask, options)
        if problem is None:
            cutout = cut_out(photo, mask) if each.cutout is None or mask is not each.mask else each.cutout
            used.append(FoundObject(each.number, each.where, mask, cutout))
            continue
        message = f"{each.where}: {problem}"
        if options.strict or len(found) == 1:
            raise SceneInputError(message)
        left_out[each.number] = problem
        logger.warning("%s; object %d is left out", message, each.number)
    if not used:
        problems = "; ".join(dict.fromkeys(left_out.values()))
        raise SceneInputError(
            f"{where}: expected an object that can be used, got none of {len(found)}: {problems}"
        )
    return SceneImages(
        photo,
        [each.cutout for each in used],
        [each.mask for each in used],
        tuple(each.number for each in used),
        left_out,
    )


def problem_of(mask: np.ndarray, options: ReadOptions) -> str | None:
    """Why a mask (H, W) bool cannot be used: one line, or None."""
    pixels = int(mask.sum())
    if pixels == 0:
        return "expected pixels above 0 on the object, the mask is empty; redraw it"
    if pixels < MIN_MASK_PX:
        noun = "pixel" if pixels == 1 else "pixels"
        return (
            f"expected at least {MIN_MASK_PX} pixels on the object, the mask has {pixels} {noun}; redraw it"
        )
    if pixels == mask.size:
        return "expected background (0) around the object, the mask covers the whole photo; redraw it"
    if options.inverted == "ask" and _looks_inverted(mask):
        return (
            f"covers {100 * pixels / mask.size:.0f} % of the photo and all its border: is the object what is "
            "left free? then add --inverted-masks invert; if it is that large, --inverted-masks keep"
        )
    return None


def without(scene: SceneImages, numbers: Mapping[int, str]) -> SceneImages:
    """A photo without some of its objects, for the reasons given.

    Raises:
        ValueError: no object would be left.
    """
    kept = [index for index, number in enumerate(scene.object_ids) if number not in numbers]
    if not kept:
        raise ValueError("without: expected an object that stays, got none")
    return SceneImages(
        scene.photo,
        [scene.cutouts[index] for index in kept],
        [scene.masks[index] for index in kept],
        tuple(scene.object_ids[index] for index in kept),
        {**scene.left_out, **numbers},
    )


def _looks_inverted(mask: np.ndarray) -> bool:
    """Whether a mask covers most of the photo and its border, and not everything."""
    if mask.all() or mask.mean() <= _LARGE:
        return False
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return bool(border.mean() >= _BORDER)
