"""Arrays of masks, labels, probabilities or logits, in the shapes that programs save: one mask an object."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.photos import ScenePhoto
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.soft_masks import inside_of

_FORMS = "(N, {0}, {1}), (N, 1, {0}, {1}), ({0}, {1}, N) or labels ({0}, {1})"


def masks_of(
    array: np.ndarray, photo: ScenePhoto, where: Path | str, options: ReadOptions
) -> tuple[np.ndarray, str]:
    """One mask per object.

    Args:
        array: numbers (N, H, W), (N, 1, H, W), (N, H, W, 1), (1, N, H, W), (H, W, N), (H, W, 1) or (H, W),
            where H and W are the photo's, upright or as it is stored. Of (H, W), whole numbers are labels and
            anything else is one mask.
        photo: that the masks belong to.
        where: begins messages.
        options: how many objects there may be.

    Returns:
        (N, H, W) bool, and how levels were cut or axes moved, in words; "" where nothing had to be done.

    Raises:
        SceneInputError: another shape, or something else than numbers.
    """
    if array.dtype.kind not in "biuf":
        raise _shape_error(array, photo, where)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise SceneInputError(f"{where}: expected finite numbers, got NaN or Infinity; set them to 0")
    stacked, notes = _stacked(array, photo, where)
    if stacked.ndim == 2:
        masks, cut = _of_plane(stacked, where, options)
    else:
        if len(stacked) > options.max_objects:  # before masks are made of what may be a photo's channels
            raise SceneInputError(
                f"{where}: expected at most {options.max_objects} objects, found {len(stacked)}; split the "
                "scene, or raise --max-objects"
            )
        masks, cut = _cut(stacked)
    if not len(masks):
        raise SceneInputError(f"{where}: expected at least one mask, got none; mark the objects")
    return masks, "; ".join(filter(None, [*notes, cut]))


def _stacked(array: np.ndarray, photo: ScenePhoto, where: Path | str) -> tuple[np.ndarray, list[str]]:
    """(N, H, W) or (H, W) on the upright photo, and what was done."""
    turned = photo.shape[::-1] if photo.turn is not None else None
    for shape in filter(None, (photo.shape, turned)):
        found = _axes_moved(array, shape)
        if found is None:
            continue
        stacked, note = found
        notes = [note] if note else []
        if shape == turned and shape != photo.shape:
            stacked = _turn(stacked, photo)
            notes.append("drawn on the photo as it is stored, turned with it by its EXIF data")
        return stacked, notes
    raise _shape_error(array, photo, where)


def _axes_moved(array: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, str] | None:
    """The array with objects first, if its axes fit a (height, width); and what was done."""
    if array.shape == shape or (array.ndim == 3 and array.shape[1:] == shape):
        return array, ""
    if array.ndim == 4 and array.shape[2:] == shape and 1 in array.shape[:2]:
        return array.reshape(-1, *shape), ""
    if array.ndim == 4 and array.shape[1:3] == shape and array.shape[3] == 1:
        return array[..., 0], ""
    if array.ndim == 3 and array.shape[:2] == shape:
        return np.moveaxis(array, -1, 0), f"{array.shape}: the last axis is that of the objects"
    return None


def _turn(array: np.ndarray, photo: ScenePhoto) -> np.ndarray:
    """Turn (..., H, W) as the photo's file was turned: Pillow's operations, on arrays of any type."""
    name = photo.turn.name
    if name in ("ROTATE_90", "ROTATE_270"):
        return np.rot90(array, 1 if name == "ROTATE_90" else -1, axes=(-2, -1))
    swapped = array.swapaxes(-2, -1)
    return swapped if name == "TRANSPOSE" else swapped[..., ::-1, ::-1]


def _of_plane(plane: np.ndarray, where: Path | str, options: ReadOptions) -> tuple[np.ndarray, str]:
    """Masks of an array (H, W): whole numbers are labels, others one mask."""
    if plane.dtype.kind == "f" and (plane != np.rint(plane)).any():
        return _cut(plane[None])
    values = np.unique(plane[plane > 0])
    if len(values) > options.max_objects:
        raise SceneInputError(
            f"{where}: expected at most {options.max_objects} objects, got {len(values)} labels; split the "
            "scene, or raise --max-objects"
        )
    return np.stack([plane == value for value in values]) if len(values) else np.zeros(
        (0, *plane.shape), bool
    ), ""


def _cut(stack: np.ndarray) -> tuple[np.ndarray, str]:
    """Masks (N, H, W) of levels of any kind, and how they were cut."""
    if stack.dtype.kind == "b" or not stack.size:
        return stack > 0, ""
    low, high = stack.min(), stack.max()
    if low < 0:
        kind = "logits" if stack.dtype.kind == "f" else "numbers"
        return stack > 0, f"{kind} from {low:g} to {high:g}, cut at 0"
    if stack.dtype.kind == "f" and high <= 1 and ((stack > 0) & (stack < 1)).any():
        return stack > 0.5, "probabilities, cut at a half"
    if any(len(np.unique(mask)) > 2 for mask in stack):
        half = [inside_of(mask) for mask in stack]
        return np.stack(half), "soft edges, cut at half of each mask's highest level"
    return stack > 0, ""


def _shape_error(array: np.ndarray, photo: ScenePhoto, where: Path | str) -> SceneInputError:
    return SceneInputError(
        f"{where}: expected masks {_FORMS.format(*photo.shape)} like the photo, got {array.shape} "
        f"{array.dtype}; save one mask per object at full photo size"
    )
