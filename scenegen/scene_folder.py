"""Read the input of inference: folders with a photo and one mask per object.

A scene folder holds either

* ``scene.jpg`` (or ``.jpeg``, ``.png``), and for each object ``<k>_mask.png`` (as large as the photo, above 0
  on the object) with ``<k>.png`` (the cut-out: RGBA, any size), k = 0, 1, 2, ...; other files are ignored; or
* the photo and ``labels.png``, one grey value or palette index per object and 0 for the background.

Every fault of the input is a `SceneInputError` of one line: file, what was expected, what came, what to do.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

PHOTO_NAMES = ("scene.jpg", "scene.jpeg", "scene.png")
LABELS_NAME = "labels.png"
MAX_OBJECTS = 64
MAX_ASPECT_RATIO = 8
MIN_SIDE_PX = 16
OPAQUE_ALPHA = 204  # pixels that count for the crop of the asset image

_EIGHT_BIT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"}
_PNG_BIT_DEPTH_OFFSET = 24  # signature 8, chunk length and type 8, width and height 8
_OBJECT_FILE = re.compile(r"(?P<stem>.+?)(?P<mask>_mask)?\.png", re.IGNORECASE)


class SceneInputError(ValueError):
    """A scene folder that cannot be used; the message is one line and names the file."""


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
    """A photo (RGB) with its objects in natural order."""

    scene_id: str
    photo: Image.Image
    objects: tuple[SceneObject, ...]


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key under which ``10`` comes after ``9``; numbers come before text."""
    parts = [part for part in re.split(r"(\d+)", name) if part]
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def find_scene_folders(root: Path) -> list[Path]:
    """List the scene folders under `root` in natural order; `root` itself when it is one.

    Raises:
        SceneInputError: root is missing, is not a folder, cannot be listed or holds no scene.
    """
    entries = _list_folder(root)
    if any(_is_scene_file(entry.name) for entry in entries):
        return [root]
    folders = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    if not folders:
        raise SceneInputError(
            f"{root}: expected folders with {PHOTO_NAMES[0]} and 0.png, 0_mask.png, ..., found no folder; "
            "pass the folder of scenes or one scene folder as --input"
        )
    return sorted(folders, key=lambda folder: natural_key(folder.name))


def read_scene(folder: Path) -> SceneInput:
    """Read and check one scene folder (layouts in the module's text).

    Raises:
        SceneInputError: a file is missing, unreadable or contradicts another.
    """
    names = sorted((entry.name for entry in _list_folder(folder)), key=natural_key)
    photo_path = _find_photo(folder, names)
    photo = _read_photo(photo_path)
    pairs = _object_files(folder, names)
    if LABELS_NAME in names:
        if pairs:
            raise SceneInputError(
                f"{folder / LABELS_NAME}: expected either {LABELS_NAME} or <k>_mask.png files, found both; "
                "remove one of them"
            )
        objects = _objects_from_labels(folder / LABELS_NAME, photo)
    else:
        objects = _objects_from_pairs(folder, pairs, photo)
    if len(objects) > MAX_OBJECTS:
        raise SceneInputError(
            f"{folder}: expected at most {MAX_OBJECTS} objects, found {len(objects)}; split the scene"
        )
    return SceneInput(folder.resolve().name, photo, tuple(objects))


def _is_scene_file(name: str) -> bool:
    if name in PHOTO_NAMES or name == LABELS_NAME:
        return True
    match = _OBJECT_FILE.fullmatch(name)
    return bool(match) and (match["mask"] is not None or match["stem"].isdecimal())


def _list_folder(folder: Path) -> list[Path]:
    if not folder.exists():
        raise SceneInputError(f"{folder}: expected a folder, found nothing; check the path")
    if not folder.is_dir():
        raise SceneInputError(f"{folder}: expected a folder, found a file; pass the folder that holds it")
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise SceneInputError(
            f"{folder}: cannot be listed ({error.strerror}); check its permissions"
        ) from error


def _find_photo(folder: Path, names: list[str]) -> Path:
    found = [name for name in PHOTO_NAMES if name in names]
    if not found:
        raise SceneInputError(
            f"{folder / PHOTO_NAMES[0]}: expected the photo of the scene, found none; add it"
        )
    if len(found) > 1:
        raise SceneInputError(
            f"{folder}: expected one photo, found {' and '.join(found)}; remove all but one of them"
        )
    return folder / found[0]


def _read_photo(path: Path) -> Image.Image:
    photo = _open_image(path)
    width, height = photo.size
    if min(width, height) < MIN_SIDE_PX or max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise SceneInputError(
            f"{path}: expected a photo of at least {MIN_SIDE_PX} px a side and at most {MAX_ASPECT_RATIO}:1, "
            f"got {width}x{height}; use a larger or less elongated photo"
        )
    return _over_background(photo, 255)


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
            f"{folder}: expected masks (0_mask.png with 0.png, ...) or {LABELS_NAME}, found none; add them"
        )
    return [_read_object(object_id, pairs[object_id], photo) for object_id in sorted(pairs)]


def _read_object(object_id: int, files: dict[str, Path], photo: Image.Image) -> SceneObject:
    if "cutout" not in files:
        expected = files["mask"].with_name(f"{object_id}.png")
        raise SceneInputError(
            f"{files['mask']}: expected the cut-out {expected.name} beside it, found none; add it"
        )
    cutout = _open_image(files["cutout"])
    if "mask" in files:
        mask = _read_mask(files["mask"], photo.size)
    else:
        mask = _mask_from_alpha(files["cutout"], cutout, photo)
    return SceneObject(object_id, _with_alpha(files["cutout"], cutout, mask), mask)


def _read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read an object mask of `size` (width, height): (H, W) bool, true where any colour shows over black."""
    image = _open_image(path)
    if image.size != size:
        raise SceneInputError(
            f"{path}: expected a mask of {size[0]}x{size[1]} like the photo, got {_size_text(image)}; "
            "save the mask at full photo size"
        )
    mask = np.asarray(_over_background(image, 0).convert("L")) > 0
    if not mask.any():
        raise SceneInputError(f"{path}: expected pixels above 0 on the object, the mask is empty; redraw it")
    return mask


def _mask_from_alpha(path: Path, cutout: Image.Image, photo: Image.Image) -> np.ndarray:
    """Take the mask from a full-size cut-out's alpha when the mask file is missing."""
    mask_name = f"{path.stem}_mask.png"
    if cutout.size != photo.size or not _has_alpha(cutout):
        raise SceneInputError(
            f"{path}: expected {mask_name} beside it (or a cut-out with transparency and the photo's size "
            f"{_size_text(photo)}), got only {cutout.mode} of {_size_text(cutout)}; add {mask_name}"
        )
    return _alpha(cutout) > 0


def _with_alpha(path: Path, cutout: Image.Image, mask: np.ndarray) -> Image.Image:
    """Return the cut-out as RGBA with the object's outline in its alpha."""
    if _has_alpha(cutout):
        if _alpha(cutout).max() <= OPAQUE_ALPHA:
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
    image = _open_image(path)
    if image.size != photo.size:
        raise SceneInputError(
            f"{path}: expected labels of {_size_text(photo)} like the photo, "
            f"got {_size_text(image)}; save the labels at full photo size"
        )
    labels = np.asarray(image if image.mode in ("P", "L") else _grey(path, image))
    values = np.unique(labels[labels > 0])
    if len(values) == 0:
        raise SceneInputError(
            f"{path}: expected a label above 0 for each object, all pixels are 0; draw the objects"
        )
    if len(values) > MAX_OBJECTS:
        raise SceneInputError(
            f"{path}: expected at most {MAX_OBJECTS} labels, got {len(values)} grey values; "
            "save the labels without smoothing, as a palette or grey PNG"
        )
    return [_object_from_mask(rank, photo, labels == value) for rank, value in enumerate(values)]


def _object_from_mask(object_id: int, photo: Image.Image, mask: np.ndarray) -> SceneObject:
    cutout = np.dstack([np.asarray(photo), np.full(mask.shape, 255, np.uint8)]) * mask[..., None]
    return SceneObject(object_id, Image.fromarray(cutout), mask)


def _grey(path: Path, image: Image.Image) -> Image.Image:
    rgb = np.asarray(image.convert("RGB"))
    if (rgb != rgb[..., :1]).any():
        raise SceneInputError(
            f"{path}: expected grey or palette labels, got colours; save one grey per object"
        )
    return Image.fromarray(rgb[..., 0])


def _open_image(path: Path) -> Image.Image:
    """Decode a whole 8-bit image, turned upright by its EXIF orientation."""
    try:
        with Image.open(path) as image:
            _check_depth(path, image)
            image.load()
            return ImageOps.exif_transpose(image)
    except UnidentifiedImageError as error:
        raise SceneInputError(
            f"{path}: expected a JPEG or PNG image, got other content; save it again"
        ) from error
    except Image.DecompressionBombError as error:
        raise SceneInputError(
            f"{path}: expected an image of ordinary size, got too many pixels; shrink it"
        ) from error
    except SceneInputError:
        raise
    except (
        OSError,
        SyntaxError,
        EOFError,
        ValueError,
        struct.error,
    ) as error:  # what Pillow's decoders raise
        raise SceneInputError(
            f"{path}: expected a whole image, reading stopped ({error}); copy it again"
        ) from error


def _check_depth(path: Path, image: Image.Image) -> None:
    bits = _png_bit_depth(path) if image.format == "PNG" else 8
    if bits == 16 or image.mode.startswith(("I", "F")):
        raise SceneInputError(f"{path}: expected 8 bits a channel, got a 16-bit image; convert it to 8-bit")
    if image.mode not in _EIGHT_BIT_MODES:
        raise SceneInputError(
            f"{path}: expected an RGB, RGBA or grey image, got {image.mode}; convert it to RGB"
        )


def _png_bit_depth(path: Path) -> int:
    """Bit depth in a PNG's header; Pillow opens 16-bit RGB as 8-bit without saying so."""
    with path.open("rb") as file:
        header = file.read(_PNG_BIT_DEPTH_OFFSET + 1)
    return header[_PNG_BIT_DEPTH_OFFSET]


def _size_text(image: Image.Image) -> str:
    return f"{image.width}x{image.height}"


def _alpha(image: Image.Image) -> np.ndarray:
    """Opacity (H, W) uint8."""
    return np.asarray(image.convert("RGBA"))[..., 3]


def _has_alpha(image: Image.Image) -> bool:
    """Whether any pixel is not opaque."""
    return bool(_alpha(image).min() < 255)


def _over_background(image: Image.Image, level: int) -> Image.Image:
    """Composite onto a grey background and return RGB."""
    background = Image.new("RGBA", image.size, (level, level, level, 255))
    return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
