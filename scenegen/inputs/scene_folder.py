"""Read the input of inference: photos with one mask per object.

A scene folder holds either

* ``scene.jpg`` (or ``.jpeg``, ``.png``, in any case), and for each object ``<k>_mask.png`` (as large as the
  photo, above 0 on the object), or ``<k>.png`` (the cut-out: RGBA), or both, k = 0, 1, 2, ...; a cut-out
  beside its mask may have any size; other files, and those whose names begin with a dot, are ignored;
* the photo and ``labels.png``, one grey value, palette index or colour per object, black for the background;
* the photo and ``masks.npy``, (N, H, W), above 0 on each object;
* the photo, alone or with ``boxes.json``, where masks were found for it (`photos_without_masks`);
* cut-outs alone, all of one size: laid over white they are the photo; or
* folders ``view_0``, ``view_1``, ...: several photos of the scene, each in one of the forms above, with the
  same objects under the same numbers.

A photo may also be given by itself with a file of its masks (`read_photo`).

Every fault of the input is a `SceneInputError` of one line: file, what was expected, what came, what to do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from scenegen.inputs.cutouts import OPAQUE_ALPHA, alpha_of, cut_out, has_alpha
from scenegen.inputs.image_files import SceneInputError, open_image, over_background, size_text
from scenegen.inputs.label_image import read_labels
from scenegen.inputs.limits import MAX_ASPECT_RATIO, MAX_OBJECTS, MAX_VIEWS, MIN_SIDE_PX
from scenegen.inputs.names import BOXES_NAME, LABELS_NAME, MASKS_NAME, PHOTO_NAMES, natural_key, scene_id_of

_OBJECT_FILE = re.compile(r"(?P<stem>.+?)(?P<mask>_mask)?\.png", re.IGNORECASE)
_VIEW_FOLDER = re.compile(r"view_\d+")


@dataclass(frozen=True)
class SceneObject:
    """One object of the photo.

    Attributes:
        object_id: the number in the file name (or the rank of the label); names the node ``obj_<object_id>``.
        cutout: RGBA image of the object alone, any size, alpha 0 outside it.
        mask: (H, W) bool, the object's pixels in the photo; never empty.
    """

    object_id: int
    cutout: Image.Image
    mask: np.ndarray

    @property
    def area(self) -> int:
        """Number of mask pixels."""
        return int(self.mask.sum())


@dataclass(frozen=True)
class SceneInput:
    """A photo (RGB) with its objects in natural order, and further photos with the same objects."""

    scene_id: str
    photo: Image.Image
    objects: tuple[SceneObject, ...]
    more_views: tuple[SceneInput, ...] = ()


@dataclass(frozen=True)
class PhotoWithoutMasks:
    """A photo whose masks have to be found.

    Attributes:
        path: the photo.
        boxes: file with boxes around its objects, if there is one.
        view: name of its folder, where it is one of several photos of a scene.
    """

    path: Path
    boxes: Path | None = None
    view: str | None = None

    @property
    def labels(self) -> Path:
        """Where the label image goes, below the folder of found masks."""
        return Path(self.view or "") / LABELS_NAME


def find_scene_folders(root: Path) -> list[Path]:
    """List the scene folders under `root` in natural order; `root` itself when it is one.

    Raises:
        SceneInputError: root is missing, is not a folder, cannot be listed or holds no scene.
    """
    entries = _list_folder(root)
    if any(_is_scene_file(entry.name) or _VIEW_FOLDER.fullmatch(entry.name) for entry in entries):
        return [root]
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise SceneInputError(
            f"{root}: expected folders with {PHOTO_NAMES[0]} and 0.png, 0_mask.png, ..., found no folder; "
            "pass the folder of scenes or one scene folder as --input"
        )
    return sorted(folders, key=lambda folder: natural_key(folder.name))


def photos_without_masks(folder: Path) -> list[PhotoWithoutMasks]:
    """The photos of a scene folder that have no masks beside them.

    Raises:
        SceneInputError: the folder cannot be listed, or a photo is missing or its name used twice.
    """
    views = _view_folders(folder)
    photos = []
    for view in views or [folder]:
        names = sorted(entry.name for entry in _list_folder(view))
        if _object_files(view, names) or {LABELS_NAME, MASKS_NAME} & set(names):
            continue
        boxes = view / BOXES_NAME if BOXES_NAME in names else None
        photos.append(PhotoWithoutMasks(_find_photo(view, names), boxes, view.name if views else None))
    return photos


def read_scene(folder: Path, found: Path | None = None) -> SceneInput:
    """Read and check one scene folder (layouts in the module's text).

    Args:
        folder: of the scene.
        found: folder of label images for `photos_without_masks`.

    Raises:
        SceneInputError: a file is missing, unreadable or contradicts another.
    """
    views = _view_folders(folder)
    if not views:
        return _read_view(folder, found)
    if len(views) > MAX_VIEWS:
        raise SceneInputError(
            f"{folder}: expected at most {MAX_VIEWS} views, found {len(views)}; leave some out"
        )
    if mixed := [entry.name for entry in _list_folder(folder) if _is_scene_file(entry.name)]:
        raise SceneInputError(
            f"{folder / min(mixed)}: expected either a photo with masks or folders view_0, view_1, ..., "
            "found both; move it into a view or remove it"
        )
    first, *others = (_read_view(view, found / view.name if found else None) for view in views)
    ids = [item.object_id for item in first.objects]
    for view in others:
        if (got := [item.object_id for item in view.objects]) != ids:
            raise SceneInputError(
                f"{folder / view.scene_id}: expected the objects {ids} of {first.scene_id}, got {got}; "
                "give every object a mask in every view, or leave the view or the object out"
            )
    return replace(first, scene_id=scene_id_of(folder), more_views=tuple(others))


def _view_folders(folder: Path) -> list[Path]:
    views = [entry for entry in _list_folder(folder) if entry.is_dir() and _VIEW_FOLDER.fullmatch(entry.name)]
    return sorted(views, key=lambda view: natural_key(view.name))


def read_photo(path: Path, masks: Path) -> SceneInput:
    """Read a photo and the masks of its objects from two files.

    Args:
        path: JPEG or PNG.
        masks: a label image, or an array as ``masks.npy``.

    Raises:
        SceneInputError: a file is missing, unreadable or contradicts the other.
    """
    if not path.is_file():
        raise SceneInputError(f"{path}: expected a photo, found none; masks by file belong to one photo")
    photo = open_photo(path)
    if not masks.is_file():
        raise SceneInputError(f"{masks}: expected a label image or an array of masks, found no such file")
    read = _objects_from_array if masks.suffix == ".npy" else _objects_from_labels
    return SceneInput(scene_id_of(path), photo, _limited(path, read(masks, photo)))


def _read_view(folder: Path, found: Path | None) -> SceneInput:
    """Read one photo with its objects, from a label image among the found ones where it has no masks."""
    names = sorted((entry.name for entry in _list_folder(folder)), key=natural_key)
    pairs = _object_files(folder, names)
    sources = [name for name in (LABELS_NAME, MASKS_NAME) if name in names]
    if sources and (pairs or len(sources) > 1):
        other = "<k>_mask.png files" if pairs else MASKS_NAME
        raise SceneInputError(
            f"{folder / sources[0]}: expected either {sources[0]} or {other}, found both; remove one of them"
        )
    if _holds_cutouts_alone(names, pairs):
        photo = _photo_from_cutouts(pairs)
    else:
        photo = open_photo(_find_photo(folder, names))
    if not (sources or pairs) and found is not None:
        objects = _objects_from_labels(found / LABELS_NAME, photo)
    elif not sources:
        objects = _objects_from_pairs(folder, pairs, photo)
    elif sources[0] == LABELS_NAME:
        objects = _objects_from_labels(folder / LABELS_NAME, photo)
    else:
        objects = _objects_from_array(folder / MASKS_NAME, photo)
    return SceneInput(scene_id_of(folder), photo, _limited(folder, objects))


def _limited(path: Path, objects: list[SceneObject]) -> tuple[SceneObject, ...]:
    if len(objects) > MAX_OBJECTS:
        raise SceneInputError(
            f"{path}: expected at most {MAX_OBJECTS} objects, found {len(objects)}; split the scene"
        )
    return tuple(objects)


def _is_photo(name: str) -> bool:
    return name.lower() in PHOTO_NAMES  # cameras write .JPG


def _is_scene_file(name: str) -> bool:
    if _is_photo(name) or name in (LABELS_NAME, MASKS_NAME):
        return True
    match = _OBJECT_FILE.fullmatch(name)
    return bool(match) and (match["mask"] is not None or match["stem"].isdecimal())


def _list_folder(folder: Path) -> list[Path]:
    if not folder.exists():
        raise SceneInputError(f"{folder}: expected a folder, found nothing; check the path")
    if not folder.is_dir():
        raise SceneInputError(f"{folder}: expected a folder, found a file; pass the folder that holds it")
    try:
        # macOS leaves files such as ._0_mask.png in the archives that it makes.
        return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise SceneInputError(
            f"{folder}: cannot be listed ({error.strerror}); check its permissions"
        ) from error


def _find_photo(folder: Path, names: list[str]) -> Path:
    found = [name for name in names if _is_photo(name)]
    if not found:
        raise SceneInputError(
            f"{folder / PHOTO_NAMES[0]}: expected the photo of the scene, found none; add it"
        )
    if len(found) > 1:
        raise SceneInputError(
            f"{folder}: expected one photo, found {' and '.join(found)}; remove all but one of them"
        )
    return folder / found[0]


def open_photo(path: Path) -> Image.Image:
    """Read the photo of a scene: RGB, upright, over white.

    Raises:
        SceneInputError: it is unreadable, too small or too elongated.
    """
    photo = open_image(path)
    width, height = photo.size
    if min(width, height) < MIN_SIDE_PX or max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise SceneInputError(
            f"{path}: expected a photo of at least {MIN_SIDE_PX} px a side and at most {MAX_ASPECT_RATIO}:1, "
            f"got {width}x{height}; use a larger or less elongated photo"
        )
    return over_background(photo, 255)


def _holds_cutouts_alone(names: list[str], pairs: dict[int, dict[str, Path]]) -> bool:
    return (
        bool(pairs)
        and not any(_is_photo(name) or name in (LABELS_NAME, MASKS_NAME) for name in names)
        and not any("mask" in files for files in pairs.values())
    )


def _photo_from_cutouts(pairs: dict[int, dict[str, Path]]) -> Image.Image:
    """Lay cut-outs of one size over each other and over white."""
    photo, first = None, None
    for files in pairs.values():
        path = files["cutout"]
        cutout = open_image(path)
        if photo is None:
            photo, first = Image.new("RGBA", cutout.size, (255, 255, 255, 255)), path
        if cutout.size != photo.size:
            raise SceneInputError(
                f"{path}: expected a cut-out of {size_text(photo)} like {first.name}, as there is no photo, "
                f"got {size_text(cutout)}; add {PHOTO_NAMES[0]} or save the cut-outs at the photo's size"
            )
        if not has_alpha(cutout):
            raise SceneInputError(
                f"{path}: expected a cut-out with transparency (RGBA), as there is no photo, got "
                f"{cutout.mode} without; add {PHOTO_NAMES[0]} or make the background transparent"
            )
        photo = Image.alpha_composite(photo, cutout.convert("RGBA"))
    return photo.convert("RGB")


def _object_files(folder: Path, names: list[str]) -> dict[int, dict[str, Path]]:
    """Collect ``<k>.png`` and ``<k>_mask.png`` as {k: {"cutout": path, "mask": path}} in natural order."""
    pairs: dict[int, dict[str, Path]] = {}
    for name in names:
        match = _OBJECT_FILE.fullmatch(name)
        if match is None or not (match["mask"] or match["stem"].isdecimal()):
            continue
        if not match["stem"].isdecimal():
            raise SceneInputError(
                f"{folder / name}: expected a mask named <number>_mask.png, got {name!r}; rename it"
            )
        files = pairs.setdefault(int(match["stem"]), {})
        kind = "mask" if match["mask"] else "cutout"
        if kind in files:
            raise SceneInputError(
                f"{folder / name}: expected one file for object {int(match['stem'])}, "
                f"found {files[kind].name} too; remove one of them"
            )
        files[kind] = folder / name
    return pairs


def _objects_from_pairs(
    folder: Path, pairs: dict[int, dict[str, Path]], photo: Image.Image
) -> list[SceneObject]:
    if not pairs:
        raise SceneInputError(
            f"{folder}: expected masks (0_mask.png with 0.png, ...) or {LABELS_NAME}, found none; add them, "
            f"or {BOXES_NAME}, or use --auto-masks"
        )
    return [_read_object(object_id, pairs[object_id], photo) for object_id in sorted(pairs)]


def _read_object(object_id: int, files: dict[str, Path], photo: Image.Image) -> SceneObject:
    if "cutout" not in files:
        return _object_from_mask(object_id, photo, _read_mask(files["mask"], photo.size))
    cutout = open_image(files["cutout"])
    if "mask" in files:
        mask = _read_mask(files["mask"], photo.size)
    else:
        mask = _mask_from_alpha(files["cutout"], cutout, photo)
    return SceneObject(object_id, _with_alpha(files["cutout"], cutout, mask), mask)


def _read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read an object mask of `size` (width, height): (H, W) bool, true where any colour shows over black."""
    image = open_image(path)
    if image.size != size:
        raise SceneInputError(
            f"{path}: expected a mask of {size[0]}x{size[1]} like the photo, got {size_text(image)}; "
            "save the mask at full photo size"
        )
    mask = np.asarray(over_background(image, 0).convert("L")) > 0
    if not mask.any():
        raise SceneInputError(f"{path}: expected pixels above 0 on the object, the mask is empty; redraw it")
    _check_background(path, mask)
    return mask


def _check_background(where: Path | str, mask: np.ndarray) -> None:
    """Refuse a mask of everything, which is a mistake in drawing and gives a cut-out without an outline."""
    if mask.all():
        raise SceneInputError(
            f"{where}: expected background (0) around the object, the mask covers the whole photo; redraw it"
        )


def _mask_from_alpha(path: Path, cutout: Image.Image, photo: Image.Image) -> np.ndarray:
    """Take the mask from a full-size cut-out's alpha when the mask file is missing."""
    mask_name = f"{path.stem}_mask.png"
    if cutout.size != photo.size or not has_alpha(cutout):
        raise SceneInputError(
            f"{path}: expected {mask_name} beside it (or a cut-out with transparency and the photo's size "
            f"{size_text(photo)}), got only {cutout.mode} of {size_text(cutout)}; add {mask_name}"
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


def _objects_from_labels(path: Path, photo: Image.Image) -> list[SceneObject]:
    """Split a label image into objects in ascending order of label."""
    image = open_image(path)
    if image.size != photo.size:
        raise SceneInputError(
            f"{path}: expected labels of {size_text(photo)} like the photo, "
            f"got {size_text(image)}; save the labels at full photo size"
        )
    labels = read_labels(image)
    values = np.unique(labels[labels > 0])
    if len(values) == 0:
        raise SceneInputError(
            f"{path}: expected a label above 0 for each object, all pixels are 0; draw the objects"
        )
    if len(values) > MAX_OBJECTS:
        raise SceneInputError(
            f"{path}: expected at most {MAX_OBJECTS} labels, got {len(values)} values; "
            "save the labels without smoothing, as a PNG"
        )
    masks = [labels == value for value in values]
    for mask in masks:
        _check_background(path, mask)
    return [_object_from_mask(rank, photo, mask) for rank, mask in enumerate(masks)]


def _objects_from_array(path: Path, photo: Image.Image) -> list[SceneObject]:
    """Read one mask per object from an array (N, H, W)."""
    try:
        with path.open("rb") as file:
            masks = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SceneInputError(
            f"{path}: expected an array file of numbers, reading stopped ({error}); save it with numpy.save"
        ) from error
    if masks.ndim != 3 or masks.shape[1:] != (photo.height, photo.width) or masks.dtype.kind not in "biuf":
        raise SceneInputError(
            f"{path}: expected masks (N, {photo.height}, {photo.width}) like the photo, got {masks.shape} "
            f"{masks.dtype}; save one mask per object at full photo size"
        )
    masks = masks > 0
    if empty := np.flatnonzero(~masks.any(axis=(1, 2))).tolist():
        raise SceneInputError(f"{path}: expected pixels above 0 in every mask, masks {empty} are empty")
    if not len(masks):
        raise SceneInputError(f"{path}: expected at least one mask, got none; mark the objects")
    for index, mask in enumerate(masks):
        _check_background(f"{path}: mask {index}", mask)
    return [_object_from_mask(index, photo, mask) for index, mask in enumerate(masks)]


def _object_from_mask(object_id: int, photo: Image.Image, mask: np.ndarray) -> SceneObject:
    return SceneObject(object_id, cut_out(photo, mask), mask)
