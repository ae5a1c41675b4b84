"""Write a generated scene, complete or not at all.

A scene folder holds the files of the formats in `scenegen.export.registry` and always ``poses.json``, which
lists them. It is written last, so that a folder with it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scenegen.export.kept_files import make_room, read_record, with_digests
from scenegen.export.meshes import build_scene
from scenegen.export.names import POSES_FILE
from scenegen.export.options import ExportOptions
from scenegen.export.poses import poses_record
from scenegen.export.registry import (
    DEFAULT_FORMATS,
    RECORD,
    STATE,
    check_formats,
    check_options,
    in_order,
    representation_requests,
    write_format,
)
from scenegen.pipelines.progress import OnProgress, ProgressReporter
from scenegen.pipelines.result import SceneResult
from trellis_modules.files import InUse, locked

_STAGING = ".partial"
_ATTEMPTS = 100


class ExportError(RuntimeError):
    """A scene that cannot be written."""


def is_complete(folder: Path, formats: Sequence[str]) -> bool:
    """Whether an earlier run finished this scene with at least these formats."""
    record = read_record(folder)
    if record is None:
        return False
    return set(record["formats"]).issuperset(formats) and all(
        (folder / name).is_file() for name in record["files"]
    )


def check_output(folder: Path) -> None:
    """Make sure, before anything is generated, that results can be written; changes nothing.

    Args:
        folder: of all scenes; need not exist.

    Raises:
        ExportError: it, or the folder that it would be made in, is a file or may not be written to.
    """
    path = folder.absolute()
    nearest = next(each for each in (path, *path.parents) if os.path.exists(each))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        kind = "may not be written to" if nearest.is_dir() else "is a file"
        raise ExportError(
            f"{folder}: expected a folder for the results, {nearest} {kind}; choose another --output"
        )


def write_scene(
    result: SceneResult,
    folder: Path,
    formats: Sequence[str] = DEFAULT_FORMATS,
    options: ExportOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
    notes: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write a scene folder; a run that is killed on the way leaves no folder that looks complete.

    The files are made below ``<parent>/.partial/<name>`` and then renamed into place; those of an earlier run
    of the same scene are replaced, and so are those of another process that makes it at the same time. Other
    files in the folder stay, also what a person made of ours, see `scenegen.export.kept_files`.

    Args:
        result: at least one object has a mesh.
        folder: ``<output>/<scene_id>``.
        formats: some of `registry.ALL_FORMATS`.
        options: how files are written; None takes the defaults.
        on_progress: called after each format.
        notes: further entries of the record.

    Returns:
        The files written.

    Raises:
        ExportError: no object has a mesh, one lacks what a format draws it from and has no `problem`, or the
            scene comes from its files and has no state to keep.
        FormatUnavailable: a format needs a package that is not installed.
        ValueError: unknown format, or no format heeds an option.
        OSError: the disk refuses.
    """
    options = options or ExportOptions()
    check_formats(formats)
    check_options(formats, options)
    check_meshes(result, folder.name)
    _check_representations(result, folder.name, formats, options)
    if STATE in formats and result.state is None:
        raise ExportError(f"{folder.name}: expected a scene with its state, got one that was read from files")
    with staging_folder(folder) as staging:
        reporter = ProgressReporter(on_progress)
        names = _write_files(result, staging, folder.name, formats, options, reporter, notes or {})
        folder.mkdir(exist_ok=True)
        with locked(folder, wait=True):
            _move_into_place(staging, folder, names)
    return [folder / name for name in names]


def check_meshes(result: SceneResult, scene_id: str) -> None:
    """Refuse a scene in which no object has a mesh.

    Raises:
        ExportError: it is one.
    """
    if all(item.mesh is None for item in result.objects):
        problems = "; ".join(sorted({str(item.problem) for item in result.objects}))
        raise ExportError(
            f"{scene_id}: expected at least one object with a surface, got none of {len(result.objects)} "
            f"({problems}); try another --seed or check the photo and the masks"
        )


def _check_representations(
    result: SceneResult, scene_id: str, formats: Sequence[str], options: ExportOptions
) -> None:
    """Refuse objects that were generated without what a format draws them from."""
    for request in representation_requests(formats, options):
        name = request.representation
        lacking = [item.node for item in result.objects if getattr(item, name) is None and not item.problem]
        if request.is_needed and lacking:
            raise ExportError(
                f"{scene_id}: {request.flag}: expected objects with a {name}, "
                f"{', '.join(lacking)} came without; "
                f"generate them with RunSettings(representations=({name!r},))"
            )


@contextmanager
def staging_folder(folder: Path) -> Iterator[Path]:
    """An empty folder of this process, on the disk of the scene's folder, for the length of a block.

    What runs left that were killed is removed. A folder that is held belongs to a process that lives.
    """
    parent = folder.parent / _STAGING / folder.name
    with ExitStack() as held:
        staging = _held_folder(parent, held)
        for other in parent.iterdir():
            if other != staging:
                with suppress(OSError), locked(other, wait=False):
                    shutil.rmtree(other) if other.is_dir() else other.unlink()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            for empty in (parent, parent.parent):
                with suppress(OSError):  # not empty: other processes write this scene or others
                    empty.rmdir()


def _held_folder(parent: Path, held: ExitStack) -> Path:
    """Make a folder and hold it, even while other processes remove what is empty or held by nobody."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError, InUse):
            parent.mkdir(parents=True, exist_ok=True)
            path = Path(tempfile.mkdtemp(dir=parent))
            held.enter_context(locked(path, wait=False))
            if path.exists():
                return path
    raise ExportError(f"{parent}: expected a folder that stays, other processes remove it; run again")


def _write_files(
    result: SceneResult,
    folder: Path,
    scene_id: str,
    formats: Sequence[str],
    options: ExportOptions,
    reporter: ProgressReporter,
    notes: Mapping[str, Any],
) -> list[str]:
    """Write the files of a scene into an empty folder and return their names, the record last."""
    scene = build_scene(result)
    names: list[str] = []
    wanted = in_order(formats)
    advance = reporter.counter("files", len(wanted) + 1)
    for name in wanted:
        names += write_format(name, result, scene, folder, options)
        advance()
    names.append(POSES_FILE)
    written = {"formats": sorted({*formats, RECORD}), "export": asdict(options), "files": names}
    record = {**poses_record(result, scene, scene_id), **notes, **written}
    text = json.dumps(with_digests(record, folder), indent=2) + "\n"
    (folder / POSES_FILE).write_text(text, encoding="utf-8")
    advance()
    return names


def _move_into_place(staging: Path, folder: Path, names: Sequence[str]) -> None:
    """Rename finished files into the scene folder; the record goes first out and last in."""
    make_room(folder, names)
    for name in names:
        os.replace(staging / name, folder / name)
