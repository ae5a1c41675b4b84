"""Scenes of a data root: ``<id>.glb`` with its record ``<id>.json`` beside, as the true scenes lie there."""

from __future__ import annotations

import json
from pathlib import Path

from scenegen.export.glb import glb_bytes
from scenegen.export.meshes import build_scene
from scenegen.export.options import ExportOptions
from scenegen.export.poses import poses_record
from scenegen.export.scene_files import check_meshes
from scenegen.pipelines.result import SceneResult
from trellis_modules.files import atomic_write


def scene_file(folder: Path, scene_id: str) -> Path:
    """Where the scene of an id lies; the file is there when the scene is complete."""
    return folder / f"{scene_id}.glb"


def write_root_scene(
    result: SceneResult, folder: Path, scene_id: str, options: ExportOptions | None = None
) -> list[Path]:
    """Write one scene of a data root; a run that is killed on the way leaves no scene file.

    Args:
        result: at least one object has a mesh.
        folder: ``scene_<set>_<name>``; made where it is missing.
        scene_id: the name of the files.
        options: how the file is written; None takes the defaults.

    Returns:
        The scene file and the record.

    Raises:
        ExportError: no object has a mesh.
        OSError: the disk refuses.
    """
    check_meshes(result, scene_id)
    scene = build_scene(result)
    path = scene_file(folder, scene_id)
    record = path.with_suffix(".json")
    text = json.dumps(poses_record(result, scene, scene_id), indent=2) + "\n"
    with atomic_write(record, shared=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
    with atomic_write(path, shared=True) as temporary:
        temporary.write_bytes(glb_bytes(scene, result.settings, options))
    return [path, record]
