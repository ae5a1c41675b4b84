"""Read the input of inference: photos with one mask per object.

A scene folder holds either

* ``scene.jpg`` (or ``image``, or any other kind of picture, in any case), and for each object
  ``<k>_mask.png`` (as large as the photo, bright on the object), or ``<k>.png`` (the cut-out: RGBA), or both,
  k = 0, 1, 2, ...; a cut-out beside its mask may have any size; other files, and those whose names begin with
  a dot, are ignored;
* the photo and ``labels.png``, one grey value, palette index or colour per object, black for the background;
* the photo and ``masks.npy`` or ``masks.npz``, for example (N, H, W), above 0 on each object;
* the photo and ``coco.json``, the polygons or run lengths of its objects;
* the photo, alone or with ``boxes.json``, where masks are found for it (`scenegen.segmentation`);
* cut-outs alone, all of one size: laid over white they are the photo; or
* folders ``view_0``, ``view_1``, ...: several photos of the scene, each in one of the forms above, with the
  same objects under the same numbers.

A photo may also be given by itself with a file of its masks (`read_photo`).

`scenegen.inputs.layout` tells which of these a folder is, and `scenegen.inputs.forms` reads the objects. A
scene is one `SceneImages` per photo, the main one first; its name is that of the folder or photo.

Every fault of the input is a `SceneInputError` of one line: file, what was expected, what came, what to do.
"""

from __future__ import annotations

from pathlib import Path

from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.layout import InputPhoto, InputScene, detect_scene
from scenegen.inputs.names import BOXES_NAME, LABELS_NAME, cutout_name, mask_name
from scenegen.inputs.objects import without
from scenegen.inputs.photos import open_scene_photo
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_images import SceneImages


def read_scene(folder: Path, options: ReadOptions | None = None) -> tuple[SceneImages, ...]:
    """Read and check one scene folder (layouts in the module's text).

    Args:
        folder: of the scene.
        options: what counts as an object; None takes the defaults.

    Returns:
        The photos of the scene with their objects, in natural order of the numbers; all photos have the same.

    Raises:
        SceneInputError: a file is missing, unreadable or contradicts another.
    """
    return read_layout(detect_scene(folder), options)


def read_photo(path: Path, masks: Path, options: ReadOptions | None = None) -> tuple[SceneImages, ...]:
    """Read a photo and the masks of its objects from two files.

    Args:
        path: of the photo.
        masks: a label image, an array as ``masks.npy``, COCO JSON, or a folder of masks.
        options: what counts as an object; None takes the defaults.

    Returns:
        A scene of one photo.

    Raises:
        SceneInputError: a file is missing, unreadable or contradicts the other.
    """
    return read_layout(detect_scene(path, masks), options)


def read_layout(layout: InputScene, options: ReadOptions | None = None) -> tuple[SceneImages, ...]:
    """Read and check a scene whose files are known.

    Args:
        layout: of the scene.
        options: what counts as an object; None takes the defaults.

    Returns:
        As `read_scene`.

    Raises:
        SceneInputError: the layout has a fault, or a file is unreadable or contradicts another.
    """
    if layout.fault is not None:
        raise SceneInputError(layout.fault)
    scene = tuple(_read(photo, options or ReadOptions()) for photo in layout.photos)
    scene = _without_left_out(layout, scene)
    first = layout.photos[0]
    ids = list(scene[0].object_ids)
    for photo, images in zip(layout.photos, scene, strict=True):
        if (got := list(images.object_ids)) != ids:
            raise SceneInputError(
                f"{photo.place}: expected the objects {ids} of {first.view}, got {got}; give every object a "
                "mask in every view, or leave the view or the object out"
            )
    return scene


def _read(layout: InputPhoto, options: ReadOptions) -> SceneImages:
    photo = None if layout.photo is None else open_scene_photo(layout.photo)
    if layout.form is None:
        raise SceneInputError(
            f"{layout.place}: expected masks ({mask_name(0)} with {cutout_name(0)}, ...) or {LABELS_NAME}, "
            f"found none; add them, or {BOXES_NAME}, or use --auto-masks"
        )
    images = layout.form.read(photo, layout.files, options)
    if (count := len(images.object_ids)) > options.max_objects:
        raise SceneInputError(
            f"{layout.place}: expected at most {options.max_objects} objects, found {count}; split the "
            "scene, or raise --max-objects"
        )
    return images


def _without_left_out(layout: InputScene, scene: tuple[SceneImages, ...]) -> tuple[SceneImages, ...]:
    """Leave an object whose mask cannot be used in one view out of all of them."""
    reasons = {number: why for images in scene for number, why in images.left_out.items()}
    if not reasons:
        return scene
    if any(set(images.object_ids) <= reasons.keys() for images in scene):
        raise SceneInputError(
            f"{layout.source}: expected an object that can be used in every view, got none: "
            f"{'; '.join(dict.fromkeys(reasons.values()))}"
        )
    return tuple(without(images, reasons) for images in scene)
