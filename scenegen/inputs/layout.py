"""What a scene folder holds, from one look at its file names: the description that everything else uses.

Whether masks have to be found, finding them and reading the scene all ask the description; nothing lists the
folder a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scenegen.inputs.form import Form
from scenegen.inputs.forms import FORMS, LABEL_IMAGE, form_of_file
from scenegen.inputs.image_files import SceneInputError
from scenegen.inputs.limits import MAX_VIEWS
from scenegen.inputs.names import (
    BOXES_NAME,
    LABELS_NAME,
    MASKS_FOLDER,
    PHOTO_NAME,
    cutout_name,
    is_junk,
    is_photo_name,
    is_picture_name,
    is_view_name,
    labels_stem_of,
    mask_name,
    natural_key,
    scene_id_of,
)
from scenegen.inputs.photos import find_photo


@dataclass(frozen=True)
class InputPhoto:
    """Where one photo and its objects are.

    Attributes:
        place: the folder, or the photo where it is given by itself; begins messages.
        photo: the photo; None where its cut-outs show all of it.
        form: how the objects are given; None where their masks have to be found.
        files: of the form, in natural order; none without a form.
        boxes: file with boxes around the objects; None where there is none, or masks make it needless.
        view: name of the folder, where this is one of several photos of a scene.
    """

    place: Path
    photo: Path | None
    form: Form | None = None
    files: tuple[Path, ...] = ()
    boxes: Path | None = None
    view: str | None = None

    def found_labels(self, folder: Path) -> Path:
        """Where the label image of found masks lies; ``folder`` holds those of the scene."""
        return folder / (self.view or "") / LABELS_NAME

    def with_found_labels(self, folder: Path) -> InputPhoto:
        """The same photo with the label image of the masks that were found for it."""
        return replace(self, form=LABEL_IMAGE, files=(self.found_labels(folder),))


@dataclass(frozen=True)
class InputScene:
    """Where the photos of one scene are.

    Attributes:
        source: the scene folder, or the photo where it is given by itself.
        scene_id: the name of the scene.
        photos: the main one first; none where there is a fault.
        fault: one line that says what is missing or contradictory, None for a scene that can be read.
    """

    source: Path
    scene_id: str
    photos: tuple[InputPhoto, ...] = ()
    fault: str | None = None


def find_scene_folders(root: Path) -> list[Path]:
    """List the scenes under `root` in natural order.

    Returns:
        The scene folders; `root` itself when it is one; or, where photos such as ``04_rgb.png`` lie beside
        their label images ``04_seg.png``, those photos.

    Raises:
        SceneInputError: root is missing, is not a folder, cannot be listed or holds no scene.
    """
    entries = _list_folder(root)
    names = {entry.name: entry for entry in entries}
    if pairs := [names[name] for name in names if labels_beside(name, names) is not None]:
        return pairs
    if any(_is_scene_file(entry.name) or is_view_name(entry.name) for entry in entries):
        return [root]
    folders = [entry for entry in entries if entry.is_dir()]
    if not folders:
        raise SceneInputError(
            f"{root}: expected folders with {PHOTO_NAME} and {cutout_name(0)}, {mask_name(0)}, ..., "
            "found no folder; pass the folder of scenes or one scene folder as --input"
        )
    return folders


def labels_beside(photo_name: str, names: Iterable[str]) -> str | None:
    """The label image ``04_seg.png`` of a photo ``04_rgb.png`` among the names of files, if any."""
    stem = labels_stem_of(photo_name)
    if stem is None or not is_photo_name(photo_name):
        return None
    return next((name for name in names if is_picture_name(name) and Path(name).stem.lower() == stem), None)


def detect_scene(source: Path, masks: Path | None = None, boxes: Path | None = None) -> InputScene:
    """Look at the files of a scene.

    Args:
        source: a scene folder (its layouts are those of `scenegen.inputs.scene_folder`), or a photo.
        masks: file with the masks of the photo, or folder of them, where the source is one.
        boxes: file with boxes around the objects of the photo, where the source is one.

    Returns:
        The description. Faults are entered there, so that of many scenes the others go on.
    """
    try:
        by_file = masks is not None or boxes is not None or source.is_file()
        photos = (_photo_by_file(source, masks, boxes),) if by_file else _photos_of_folder(source)
    except SceneInputError as error:
        return InputScene(source, scene_id_of(source), fault=str(error))
    return InputScene(source, scene_id_of(source), photos)


def _photo_by_file(path: Path, masks: Path | None, boxes: Path | None) -> InputPhoto:
    if not path.is_file():
        raise SceneInputError(f"{path}: expected a photo, found none; masks by file belong to one photo")
    if masks is None and boxes is None:
        beside = labels_beside(path.name, [entry.name for entry in _list_folder(path.parent)])
        masks = beside and path.with_name(beside)
    if masks is None:
        return InputPhoto(path, path, boxes=boxes)
    if masks.is_dir():
        form, files = _form_in(masks, [entry.name for entry in _list_folder(masks)])
        if form is None:
            raise SceneInputError(f"{masks}: expected masks such as {mask_name(0)}, found none; add them")
        return InputPhoto(path, path, form, files)
    if not masks.exists():
        raise SceneInputError(
            f"{masks}: expected a label image, an array of masks or a folder of them, found nothing"
        )
    return InputPhoto(path, path, form_of_file(masks), (masks,))


def _photos_of_folder(folder: Path) -> tuple[InputPhoto, ...]:
    entries = _list_folder(folder)
    views = [entry for entry in entries if is_view_name(entry.name) and entry.is_dir()]
    if not views:
        return (_photo_of_folder(folder, [entry.name for entry in entries]),)
    if len(views) > MAX_VIEWS:
        raise SceneInputError(
            f"{folder}: expected at most {MAX_VIEWS} views, found {len(views)}; leave some out"
        )
    if mixed := [entry.name for entry in entries if _is_scene_file(entry.name)]:
        raise SceneInputError(
            f"{folder / min(mixed)}: expected either a photo with masks or folders view_0, view_1, ..., "
            "found both; move it into a view or remove it"
        )
    return tuple(
        replace(_photo_of_folder(view, [entry.name for entry in _list_folder(view)]), view=view.name)
        for view in views
    )


def _photo_of_folder(folder: Path, names: Sequence[str]) -> InputPhoto:
    """Tell the form of one photo's objects from the names, in natural order, of the files beside it."""
    form, files = _form_in(folder, names)
    if form is None and MASKS_FOLDER in names and (folder / MASKS_FOLDER).is_dir():
        inner = folder / MASKS_FOLDER
        form, files = _form_in(inner, [entry.name for entry in _list_folder(inner)])
    if form is None:
        boxes = folder / BOXES_NAME if BOXES_NAME in names else None
        return InputPhoto(folder, find_photo(folder, names), boxes=boxes)
    shows_all = not form.needs_photo(files) and not any(map(is_photo_name, names))
    return InputPhoto(folder, None if shows_all else find_photo(folder, names), form, files)


def _form_in(folder: Path, names: Sequence[str]) -> tuple[Form | None, tuple[Path, ...]]:
    """The form whose files are in a folder, and these files.

    Raises:
        SceneInputError: there are files of two forms, or two where one holds everything.
    """
    claimed = {form: tuple(folder / name for name in names if form.claims(name)) for form in FORMS}
    present = [form for form in FORMS if claimed[form]]
    if len(present) > 1:
        one, other = present[:2]
        raise SceneInputError(
            f"{claimed[one][0]}: expected either {one.title} or {other.title}, found both; remove one of them"
        )
    if not present:
        return None, ()
    (form,) = present
    if form.is_one_file and len(claimed[form]) > 1:
        found = " and ".join(path.name for path in claimed[form])
        raise SceneInputError(
            f"{folder}: expected one {form.title}, found {found}; remove all but one of them"
        )
    return form, claimed[form]


def _is_scene_file(name: str) -> bool:
    return is_photo_name(name) or any(form.claims(name) for form in FORMS)


def _list_folder(folder: Path) -> list[Path]:
    """What is in a folder, in natural order, without what is hidden or left there by an operating system."""
    if not folder.exists():
        raise SceneInputError(f"{folder}: expected a folder, found nothing; check the path")
    if not folder.is_dir():
        raise SceneInputError(f"{folder}: expected a folder, found a file; pass the folder that holds it")
    try:
        # macOS leaves files such as ._0_mask.png in the archives that it makes.
        entries = [entry for entry in folder.iterdir() if not is_junk(entry.name)]
    except OSError as error:
        raise SceneInputError(
            f"{folder}: cannot be listed ({error.strerror}); check its permissions"
        ) from error
    return sorted(entries, key=lambda entry: natural_key(entry.name))
