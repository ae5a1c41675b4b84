"""Versions of a scene: before its files are written again, those there are kept beside, and can come back.

The scene's folder always holds the latest version. Earlier ones lie in ``versions/1``, ``versions/2``, ...
inside it, the highest number last, and what `go_back` took away in ``versions/undone``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenegen.export.kept_files import make_room, read_record
from scenegen.export.names import POSES_FILE, VERSIONS_FOLDER
from scenegen.export.registry import can_have_written
from scenegen.export.scene_files import ExportError
from trellis_modules.files import locked

_UNDONE = "undone"


def keep_version(folder: Path) -> Path:
    """Keep the files of a scene as its newest earlier version; the folder stays as it is.

    Returns:
        The folder of the version.

    Raises:
        ExportError: the folder holds no finished scene.
        OSError: the disk refuses.
    """
    with locked(folder, wait=True):
        numbers = _numbers(folder)
        return _copy(folder, folder / VERSIONS_FOLDER / str(max(numbers, default=0) + 1))


def go_back(folder: Path) -> Path:
    """Bring the newest earlier version of a scene back; the one before is kept as ``versions/undone``.

    Returns:
        The folder that the version was in; it is gone.

    Raises:
        ExportError: there is no earlier version.
        OSError: the disk refuses.
    """
    with locked(folder, wait=True):
        version = _newest(folder)
        record = read_record(version)
        if record is None:
            raise ExportError(f"{version}: expected a version of the scene, its {POSES_FILE} is damaged")
        if read_record(folder) is not None:
            _copy(folder, folder / VERSIONS_FOLDER / _UNDONE)
        names = [name for name in _own_files(record) if name != POSES_FILE]
        make_room(folder, [*names, POSES_FILE])
        for name in (*names, POSES_FILE):  # the record last: with it the folder is complete
            _link(version / name, folder / name)
        shutil.rmtree(version)
    return version


def _newest(folder: Path) -> Path:
    """The newest version that differs from the scene as it is."""
    for number in sorted(_numbers(folder), reverse=True):
        version = folder / VERSIONS_FOLDER / str(number)
        if not _is_same(version / POSES_FILE, folder / POSES_FILE):
            return version
        shutil.rmtree(version)  # kept before a change that was interrupted
    raise ExportError(
        f"{folder}: expected an earlier version to go back to, found none; a scene has one "
        "once it was changed"
    )


def _numbers(folder: Path) -> list[int]:
    versions = folder / VERSIONS_FOLDER
    found = versions.iterdir() if versions.is_dir() else ()
    return [int(path.name) for path in found if path.name.isdecimal()]


def _is_same(file: Path, other: Path) -> bool:
    return file.is_file() and other.is_file() and file.read_bytes() == other.read_bytes()


def _copy(folder: Path, target: Path) -> Path:
    """Copy the files that a scene's record lists into a folder that appears complete or not at all."""
    record = read_record(folder)
    if record is None:
        raise ExportError(f"{folder}: expected a finished scene, found no {POSES_FILE} of one")
    names = [name for name in _own_files(record) if (folder / name).is_file()]
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as partial:
        staged = Path(partial) / target.name
        staged.mkdir()
        for name in names:
            _link(folder / name, staged / name)
        if target.exists():
            shutil.rmtree(target)
        os.replace(staged, target)
    return target


def _own_files(record: Mapping[str, Any]) -> list[str]:
    """The files that a record lists; a name that no format gives leads nowhere."""
    return [name for name in record["files"] if can_have_written(name)]


def _link(source: Path, target: Path) -> None:
    """A second name for a file that nobody writes into; a copy where the disk has no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
