"""Write a generated scene: GLB files, poses and a preview, complete or not at all.

A scene folder holds, by format name,

* ``glb``: ``scene.glb``, one node ``obj_<k>`` per object with its transform; y up, longest side 1.96;
* ``objects``: ``obj_<k>.glb``, the object in its own y-up unit frame;
* ``preview``: ``preview.png``, a shaded picture;
* files of `scenegen.export`, where asked for;
* always: ``poses.json`` with poses, frames, camera, settings and the list of files. It is written last, so
  that a folder with it is complete.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from PIL import Image
from torch import Tensor
from trimesh.exchange.gltf import export_glb

from scenegen.export.names import POSES_FILE, SCENE_FILE
from scenegen.export.registry import EXTRA_FORMATS, file_patterns, write_format
from scenegen.geometry import apply_transform, pose_to_transform
from scenegen.photo.camera import PhotoView
from scenegen.pipelines.assembly import scene_transforms
from scenegen.pipelines.result import QUERY_FRAME, GeneratedObject, SceneResult
from trellis_modules.renderers import render_snapshot

FORMATS = ("glb", "objects", "poses", "preview")
ALL_FORMATS = (*FORMATS, *EXTRA_FORMATS)
PREVIEW_FILE = "preview.png"
PREVIEW_SIZE = 512
DEFAULT_DIRECTION_DEG = (30.0, 25.0)
SECOND_VIEW_TURN_DEG = 75.0
SECOND_VIEW_PITCH_DEG = 35.0

_STAGING = ".partial"
_ATTEMPTS = 100
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963  # glTF 2.0, sec. 5.11.5
_MATERIAL = {
    "name": "vertex_colours",
    "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
}


class ExportError(RuntimeError):
    """A scene that cannot be written."""


def is_complete(folder: Path, formats: Sequence[str]) -> bool:
    """Whether an earlier run finished this scene with at least these formats."""
    try:
        record = json.loads((folder / POSES_FILE).read_text(encoding="utf-8"))
        files, written = record["files"], set(record["formats"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # no record, or not one of ours: the scene is made again
    return written.issuperset(formats) and all((folder / name).is_file() for name in files)


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


def write_scene(result: SceneResult, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a scene folder; a run that is killed on the way leaves no folder that looks complete.

    The files are made in ``<parent>/.partial/<name>`` and then renamed into place; those of an earlier run of
    the same scene are replaced, other files in the folder stay.

    Args:
        result: at least one object has a mesh.
        folder: ``<output>/<scene_id>``.
        formats: some of `ALL_FORMATS`.

    Returns:
        The files written.

    Raises:
        ExportError: no object has a mesh.
        FormatUnavailable: a format needs a package that is not installed.
        ValueError: unknown format.
        OSError: the disk refuses.
    """
    if unknown := sorted(set(formats) - set(ALL_FORMATS)):
        raise ValueError(f"write_scene: unknown format {unknown[0]!r}; known: {', '.join(ALL_FORMATS)}")
    if all(item.mesh is None for item in result.objects):
        problems = "; ".join(sorted({str(item.problem) for item in result.objects}))
        raise ExportError(
            f"{folder.name}: expected at least one object with a surface, got none of {len(result.objects)} "
            f"({problems}); try another --seed or check the photo and the masks"
        )
    staging = folder.parent / _STAGING / folder.name
    shutil.rmtree(staging, ignore_errors=True)  # left by a run that was killed
    _make_folder(staging)
    try:
        names = _write_files(result, staging, folder.name, formats)
        _move_into_place(staging, folder, names)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):  # not empty: other processes write other scenes
            staging.parent.rmdir()
    return [folder / name for name in names]


def _make_folder(path: Path) -> None:
    """Make a folder and those above it, even while other processes remove the empty ones among them."""
    for _ in range(_ATTEMPTS):
        try:
            return path.mkdir(parents=True)
        except FileNotFoundError:
            continue
    path.mkdir(parents=True)


def build_scene(result: SceneResult) -> trimesh.Scene:
    """Assemble the objects that have a mesh: nodes ``obj_<k>``, y up, box centred with longest side 1.96."""
    shown = [item for item in result.objects if item.mesh is not None]
    poses = torch.stack([item.pose for item in shown])
    transforms = scene_transforms([item.mesh.vertices for item in shown], poses)
    scene = trimesh.Scene()
    for item, transform in zip(shown, transforms, strict=True):
        scene.add_geometry(item.mesh, node_name=item.node, geom_name=item.node, transform=transform)
    return scene


def render_preview(scene: trimesh.Scene, view: PhotoView | None, size: int = PREVIEW_SIZE) -> np.ndarray:
    """Draw a y-up scene with vertex colours from two sides.

    Args:
        scene: in the query frame's axes.
        view: left, the scene is seen from the photo's direction; None takes a fixed one.
        size: height of the result in pixels.

    Returns:
        (size, 2 * size, 3) uint8; right, the camera has gone round and up.
    """
    vertices, faces, colours = joined_mesh(scene)
    yaw_deg, pitch_deg = DEFAULT_DIRECTION_DEG if view is None else view.direction_deg()
    pictures = [
        render_snapshot(vertices, faces, colours[faces].mean(dim=1), yaw_deg=yaw, pitch_deg=pitch, size=size)
        for yaw, pitch in ((yaw_deg, pitch_deg), (yaw_deg + SECOND_VIEW_TURN_DEG, SECOND_VIEW_PITCH_DEG))
    ]
    return torch.cat(pictures, dim=1).numpy()


def glb_bytes(scene: trimesh.Scene, settings: Mapping[str, Any] | None = None) -> bytes:
    """Encode a scene as GLB: rough, non-metallic materials and unit normals.

    Args:
        scene: meshes with a texture or with vertex colours.
        settings: what made it, as JSON types; kept in the extras of the file's ``asset``.
    """
    encoded = trimesh.Scene()
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        encoded.add_geometry(
            _for_gltf(scene.geometry[name]), node_name=node, geom_name=name, transform=transform
        )
    extras = {"settings": dict(settings or {})}
    return export_glb(
        encoded,
        include_normals=True,
        unitize_normals=True,
        tree_postprocessor=lambda tree: _complete_gltf_tree(tree, extras),
    )


def joined_mesh(scene: trimesh.Scene) -> tuple[Tensor, Tensor, Tensor]:
    """All meshes in place: vertices (V, 3), faces (F, 3), vertex colours (V, 3) in [0, 1]."""
    vertices, faces, colours, count = [], [], [], 0
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        mesh = scene.geometry[name]
        vertices.append(torch.tensor(apply_transform(transform, mesh.vertices), dtype=torch.float32))
        faces.append(torch.tensor(np.asarray(mesh.faces)) + count)
        colours.append(torch.tensor(vertex_colours(mesh), dtype=torch.float32) / 255)
        count += len(mesh.vertices)
    return torch.cat(vertices), torch.cat(faces), torch.cat(colours)


def vertex_colours(mesh: trimesh.Trimesh) -> np.ndarray:
    """sRGB colours (V, 3) uint8 of the vertices, read from the texture where there is one."""
    visual = mesh.visual.to_color() if mesh.visual.kind == "texture" else mesh.visual
    return np.asarray(visual.vertex_colors)[:, :3]


def srgb_to_linear(colours: np.ndarray) -> np.ndarray:
    """Map sRGB values in [0, 1] to linear light, in which glTF keeps vertex colours.

    Source: IEC 61966-2-1; glTF 2.0, sec. 3.7.2.1.
    """
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def _for_gltf(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Copy of a mesh with a usable normal at every vertex, and linear vertex colours if it has some."""
    normals = np.array(mesh.vertex_normals)
    normals[~(np.linalg.norm(normals, axis=1) > 0.5)] = (0.0, 1.0, 0.0)  # opposite faces cancel: any will do
    copy = trimesh.Trimesh(mesh.vertices, mesh.faces, vertex_normals=normals, process=False)
    if mesh.visual.kind == "texture":
        copy.visual = mesh.visual
        return copy
    rgba = mesh.visual.vertex_colors.copy()
    rgba[:, :3] = np.rint(srgb_to_linear(rgba[:, :3] / 255.0) * 255)
    copy.visual = trimesh.visual.ColorVisuals(copy, vertex_colors=rgba)
    return copy


def _complete_gltf_tree(tree: dict[str, Any], extras: dict[str, Any]) -> None:
    """Add what trimesh leaves out: extras, materials (the default is fully metallic), the use of buffers."""
    tree["asset"]["extras"] = extras
    primitives = [primitive for mesh in tree["meshes"] for primitive in mesh["primitives"]]
    if any("material" not in primitive for primitive in primitives):
        tree.setdefault("materials", []).append(_MATERIAL)
    for primitive in primitives:
        primitive.setdefault("material", len(tree["materials"]) - 1)
        _set_target(tree, primitive["indices"], _ELEMENT_ARRAY_BUFFER)
        for accessor in primitive["attributes"].values():
            _set_target(tree, accessor, _ARRAY_BUFFER)


def _set_target(tree: dict[str, Any], accessor: int, target: int) -> None:
    tree["bufferViews"][tree["accessors"][accessor]["bufferView"]]["target"] = target


def _write_files(result: SceneResult, folder: Path, scene_id: str, formats: Sequence[str]) -> list[str]:
    """Write the files of a scene into an empty folder and return their names, the record last."""
    scene = build_scene(result)
    names: list[str] = []
    if "glb" in formats:
        (folder / SCENE_FILE).write_bytes(glb_bytes(scene, result.settings))
        names.append(SCENE_FILE)
    if "objects" in formats:
        for item in result.objects:
            if item.mesh is not None:
                (folder / f"{item.node}.glb").write_bytes(glb_bytes(_object_scene(item), result.settings))
                names.append(f"{item.node}.glb")
    if "preview" in formats:
        Image.fromarray(render_preview(scene, result.view)).save(folder / PREVIEW_FILE)
        names.append(PREVIEW_FILE)
    for name in EXTRA_FORMATS:
        if name in formats:
            names += write_format(name, result, scene, folder)
    names.append(POSES_FILE)
    record = poses_record(result, scene, scene_id) | {"formats": sorted({*formats, "poses"}), "files": names}
    (folder / POSES_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return names


def _object_scene(item: GeneratedObject) -> trimesh.Scene:
    scene = trimesh.Scene()
    scene.add_geometry(item.mesh, node_name=item.node, geom_name=item.node)
    return scene


def poses_record(result: SceneResult, scene: trimesh.Scene, scene_id: str) -> dict[str, Any]:
    """The content of ``poses.json``; an object without a surface keeps its pose and tells why."""
    return {
        "scene_id": scene_id,
        "frame": QUERY_FRAME,
        "query": result.query_id,
        "objects": [_object_record(item) for item in result.objects],
        "camera": None if result.view is None else _camera_record(result.view),
        "glb": _normalisation(result, scene),
        "settings": result.settings,
        "seconds": {stage: round(seconds, 3) for stage, seconds in result.timings.items()},
        "peak_gib": {stage: round(peak / 2**30, 3) for stage, peak in result.peak_bytes.items()},
    }


def _object_record(item: GeneratedObject) -> dict[str, Any]:
    values = [float(value) for value in item.pose]
    record: dict[str, Any] = {
        "id": item.object_id,
        "node": item.node if item.mesh is not None else None,
        "name": f"object {item.object_id}",
        "translation": values[:3],
        "rotation_wxyz": values[3:7],
        "scale": values[7],
    }
    if item.problem is not None:
        record["skipped" if item.mesh is None else "problem"] = item.problem
    return record


def _camera_record(view: PhotoView) -> dict[str, Any]:
    """The fitted camera: query frame to camera (x right, y down, z forward), intrinsics in image sizes."""
    focal_y = view.focal / view.aspect
    return {
        "extrinsics": view.extrinsics.tolist(),
        "intrinsics": [[view.focal, 0.0, 0.5], [0.0, focal_y, 0.5], [0.0, 0.0, 1.0]],
        "mask_overlap": view.overlap,
    }


def _normalisation(result: SceneResult, scene: trimesh.Scene) -> dict[str, Any]:
    """The numbers in ``x_glb = scale * (x_query - centre)``."""
    item = next(item for item in result.objects if item.mesh is not None)
    query_to_glb = scene.graph[item.node][0] @ np.linalg.inv(pose_to_transform(item.pose.double()).numpy())
    scale = float(query_to_glb[0, 0])
    return {"scale": scale, "centre": (-query_to_glb[:3, 3] / scale).tolist()}


def _move_into_place(staging: Path, folder: Path, names: Sequence[str]) -> None:
    """Rename finished files into the scene folder; the record goes first out and last in."""
    folder.mkdir(exist_ok=True)
    (folder / POSES_FILE).unlink(missing_ok=True)
    for pattern in ("obj_*.glb", SCENE_FILE, PREVIEW_FILE, *file_patterns()):
        for stale in folder.glob(pattern):
            stale.unlink()
    for name in names:
        os.replace(staging / name, folder / name)
