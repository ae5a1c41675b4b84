"""Scenes of a data root: ``<id>.glb`` with its record ``<id>.json`` beside, as the true scenes lie there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scenegen.export.frames import SceneFrame
from scenegen.export.glb import glb_bytes
from scenegen.export.kept_files import make_room_for_pair, with_digests
from scenegen.export.meshes import build_scene
from scenegen.export.options import ExportOptions
from scenegen.export.photo_facts import PhotoFacts
from scenegen.export.poses import poses_record
from scenegen.export.scene_files import check_meshes, staging_folder
from scenegen.pipelines.result import SceneResult
from trellis_modules.files import locked


def scene_file(folder: Path, scene_id: str) -> Path:
    """Where the scene of an id lies; the file is there when the scene is complete."""
    return folder / f"{scene_id}.glb"


def record_file(folder: Path, scene_id: str) -> Path:
    """Where the record of that scene lies."""
    return scene_file(folder, scene_id).with_suffix(".json")


def write_root_scene(
    result: SceneResult,
    folder: Path,
    scene_id: str,
    options: ExportOptions | None = None,
    *,
    notes: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write one scene of a data root; a run that is killed on the way leaves no scene file.

    An earlier scene of that id is replaced; where a person changed one of its files since, that is kept under
    another name.

    Args:
        result: at least one object has a mesh.
        folder: ``scene_<set>_<name>``; made where it is missing.
        scene_id: the name of the files.
        options: how the file is written; None takes the defaults.
        notes: further entries of the record.

    Returns:
        The scene file and the record.

    Raises:
        ExportError: no object has a mesh.
        OSError: the disk refuses.
    """
    check_meshes(result, scene_id)
    scene = build_scene(result)
    path, own = scene_file(folder, scene_id), record_file(folder, scene_id)
    with staging_folder(folder / scene_id) as staging:
        facts = PhotoFacts.of(result).of_scene_file(SceneFrame.of(result, scene))
        (staging / path.name).write_bytes(glb_bytes(scene, result.settings, options, facts=facts))
        record = {**poses_record(result, scene, scene_id), **(notes or {}), "files": [path.name, own.name]}
        text = json.dumps(with_digests(record, staging, own.name), indent=2) + "\n"
        (staging / own.name).write_text(text, encoding="utf-8")
        with locked(folder, wait=True):
            make_room_for_pair(path, own)
            os.replace(staging / own.name, own)
            os.replace(staging / path.name, path)
    return [path, own]
