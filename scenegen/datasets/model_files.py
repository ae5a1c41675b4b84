"""Model files that others made, with the materials and textures that they name, read within limits."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
from struct import error as StructError
from typing import Any

import trimesh
from trimesh.resolvers import FilePathResolver

from safe_files.limits import MAX_GLB_BYTES
from safe_files.pictures import PICTURE_FORMATS, open_picture
from safe_files.regular import UnreadableFile, read_bytes

logger = logging.getLogger(__name__)

_TEXTS = (".obj", ".mtl")
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
# What trimesh raises for files that are cut off, damaged, something else, or of an extension that it lacks.
_UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, StructError, EOFError,
    RecursionError, ImportError, NotImplementedError,
)  # fmt: skip


def load_model_file(path: Path, **options: Any) -> trimesh.Scene:
    """Read an OBJ, GLB, glTF, PLY or STL file as it is.

    A material library or texture that is missing is named in a warning, as the model is of use without it.

    Args:
        path: the model; what it names lies beside or below it.
        options: of trimesh's reader of its format.

    Raises:
        ValueError: the model, or a file that it names, is missing, no regular file, too large or damaged; the
            message is the reason alone.
    """
    try:
        content = read_bytes(path, MAX_GLB_BYTES)
        companions = _Companions(path)
        suffix = path.suffix.lower()
        file = io.StringIO(_text(content)) if suffix in _TEXTS else io.BytesIO(content)
        scene = trimesh.load_scene(
            file, file_type=suffix.removeprefix("."), resolver=companions, process=False, **options
        )
    except _UNREADABLE as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if companions.damaged:
        raise ValueError("; ".join(companions.damaged))
    if companions.missing:
        logger.warning("%s: is read without %s, which is missing", path, ", ".join(companions.missing))
    return scene


class _Companions(FilePathResolver):
    """The files that a model names. trimesh goes on without those that fail, so they are noted here."""

    def __init__(self, model: Path) -> None:
        super().__init__(str(model))
        self.damaged: list[str] = []
        self.missing: list[str] = []

    def get(self, name: str) -> bytes:
        """Content of a file beside or below the model."""
        for candidate in (name.strip(), name.strip().lstrip("/"), os.path.split(name)[-1]):
            try:
                path = self.absolute(candidate)
                if os.path.lexists(path):
                    return _content(path)
            except (OSError, UnreadableFile, RuntimeError) as error:  # the last: links in a circle
                self.damaged.append(f"{name}: {error}")
                raise OSError(str(error)) from error
            except ValueError:  # leaves the model's folder
                continue
        self.missing.append(name)
        raise FileNotFoundError(name)


def _content(path: Path) -> bytes:
    suffix = path.suffix.lower()
    if suffix in _PICTURES:
        with open_picture(path, PICTURE_FORMATS):  # refuses those with too many pixels
            pass
    content = read_bytes(path, MAX_GLB_BYTES)
    return _text(content).encode("utf-8") if suffix in _TEXTS else content


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")
