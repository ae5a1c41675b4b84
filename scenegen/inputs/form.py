"""What each form of giving the objects of a photo says about itself; `scenegen.inputs.forms` holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scenegen.inputs.photos import ScenePhoto
from scenegen.inputs.read_options import ReadOptions
from scenegen.inputs.scene_images import SceneImages


def _always(files: Sequence[Path]) -> bool:
    return True


@dataclass(frozen=True)
class Form:
    """One form in which the objects of a photo are given.

    Attributes:
        title: what messages call its files.
        claims: whether a file of this name, in the folder of a photo, belongs to the form.
        read: the photo, the form's files, in natural order and at least one, and what counts as an object
            -> the photo with its objects; raises `SceneInputError`. The photo is None where
            ``needs_photo`` allows it.
        needs_photo: whether these files of the form are of no use without a photo.
        is_one_file: whether one file holds all objects, so that two of them are one too many.
        suffixes: of files that are the form also under any other name, when a user names the file; in small
            letters. A file that no form claims by its suffix is taken for a label image.
    """

    title: str
    claims: Callable[[str], bool]
    read: Callable[[ScenePhoto | None, Sequence[Path], ReadOptions], SceneImages]
    needs_photo: Callable[[Sequence[Path]], bool] = _always
    is_one_file: bool = False
    suffixes: tuple[str, ...] = ()
