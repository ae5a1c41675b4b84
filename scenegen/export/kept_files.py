"""Which files of a scene folder are ours: those that its record lists and that nobody changed since.

A record lists its files with their sha256. A run that writes a scene again deletes and replaces these alone;
what a person changed or put in their place is kept under another name, and a line says so. The same holds for
the two files of a scene of a data root.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safe_files.json_reader import read_json
from scenegen.export.names import POSES_FILE
from scenegen.export.registry import can_have_written

logger = logging.getLogger(__name__)

_DIGESTS = "sha256"


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a scene folder; None where there is none, or one that is not ours."""
    try:
        record = read_json(folder / POSES_FILE)
        is_ours = all(isinstance(name, str) for name in (*record["files"], *record["formats"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if is_ours else None


def with_digests(record: Mapping[str, Any], folder: Path, own: str = POSES_FILE) -> dict[str, Any]:
    """A record together with the sha256 of the files that it lists, and of itself without these.

    Args:
        record: of a scene.
        folder: where its files lie.
        own: the name that the record will have, which it lists, too.
    """
    digests = {name: _file_digest(folder / name) for name in record["files"] if name != own}
    return {**record, _DIGESTS: digests | {own: _record_digest(record)}}


def make_room(folder: Path, names: Sequence[str]) -> None:
    """Remove the files of an earlier run from a scene folder, the record first.

    A file of a person that has one of ``names`` is renamed to ``<name>.bak``; one that the record lists but
    that was changed since stays where nothing replaces it. Without a record nobody knows whose files they
    are: those that this project may have written are renamed, too. All others are left alone.

    Args:
        folder: of the scene.
        names: of the files that will be written.
    """
    record = read_record(folder)
    if record is None:
        listed = [path.name for path in folder.iterdir() if can_have_written(path.name)]
    else:
        listed = [name for name in record["files"] if can_have_written(name)]
    for name in sorted({*listed, *names}, key=lambda name: (name != POSES_FILE, name)):
        path = folder / name
        if not path.is_file():
            continue
        if record is not None and name in listed and _is_unchanged(path, record):
            path.unlink()
        elif record is None or name in names:
            _set_aside(path)
        else:
            logger.warning("%s: changed since it was written; it stays, but is no part of the scene", path)


def make_room_for_pair(scene: Path, own: Path) -> None:
    """Remove a scene that lies beside others together with its record, the scene first.

    Args:
        scene: its file; renamed to ``<name>.bak`` where a person changed it since.
        own: its record; likewise.
    """
    try:
        record = read_json(own)
    except (OSError, ValueError):
        record = None
    for path in (scene, own):
        if path.is_file():
            if isinstance(record, dict) and not _is_unchanged(path, record, own.name):
                _set_aside(path)
            else:
                path.unlink()


def _set_aside(path: Path) -> None:
    kept = _free_name(path)
    os.replace(path, kept)
    logger.warning("%s: not as an earlier run wrote it; kept as %s", path, kept.name)


def _is_unchanged(path: Path, record: Mapping[str, Any], own: str = POSES_FILE) -> bool:
    """Whether a file is what its record says; records of earlier versions say nothing."""
    digests = record.get(_DIGESTS)
    if not isinstance(digests, dict) or path.name not in digests:
        return True
    actual = _record_digest(record) if path.name == own else _file_digest(path)
    return actual == digests[path.name]


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _record_digest(record: Mapping[str, Any]) -> str:
    content = {key: value for key, value in record.items() if key != _DIGESTS}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()


def _free_name(path: Path) -> Path:
    """``<name>.bak``, or ``<name>.bak2`` and so on where that is taken."""
    kept, number = path.with_name(f"{path.name}.bak"), 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.bak{number}")
    return kept
