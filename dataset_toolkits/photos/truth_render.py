"""Pictures of true scenes from the cameras of their photos, and the file that holds those cameras."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from PIL import Image
from scipy.spatial.transform import Rotation

from safe_files.json_reader import read_json
from scenegen.blender.program import SCRIPTS, BlenderError, run_blender
from scenegen.datasets.tables import MetadataError
from scenegen.synthesis.pictures.light_model import facing_eye, received_light
from scenegen.synthesis.pictures.render_mesh import RenderMesh, load_glb
from trellis_modules.files import atomic_write, atomic_write_text

CYCLES, EMBREE = "CYCLES", "EMBREE"
ENGINES = (CYCLES, EMBREE)
CONFIG_NAME = "render_cfg.json"
PART_NAME = "render_cfg.{}.part.json"
_SCRIPT = SCRIPTS / "render_truth.py"
_SUN = np.array([0.41, 0.82, 0.41])  # y up, from the scene
_SUN_STRENGTH, _AMBIENT = 0.45, 0.6
_SUPERSAMPLE = 2


def draw_with_blender(
    glb: Path,
    entry: Mapping[str, Any],
    picture: Path,
    samples: int,
    timeout: float | None = None,
    executable: str | None = None,
) -> None:
    """Draw a true scene with Cycles, before nothing; the picture appears whole.

    Args:
        entry: see `truth.render_entry`.
        samples: paths a pixel.
        timeout, executable: see `run_blender`.

    Raises:
        BlenderError: Blender is missing, failed, or took too long.
    """
    camera = {name: entry[name] for name in ("camera_pos", "camera_rotation", "fov", "width", "height")}
    log = picture.with_suffix(".blender.log")
    with atomic_write(picture) as temporary:
        drawn = temporary.with_name(temporary.name + ".png")  # Blender wants its ending
        try:
            job = {"glb": str(glb.resolve()), "picture": str(drawn.resolve()), "samples": samples, **camera}
            run_blender(_SCRIPT, job, log, timeout, executable)
            if not drawn.is_file():
                raise BlenderError(f"{glb}: Blender ended without a picture")
            drawn.replace(temporary)
        finally:
            drawn.unlink(missing_ok=True)


def draw_with_embree(glb: Path, entry: Mapping[str, Any], picture: Path) -> None:
    """Draw a true scene by casting rays, before nothing; the picture appears whole."""
    with atomic_write(picture) as temporary:
        Image.fromarray(cast_picture(load_glb(glb), entry)).save(temporary, format="PNG")


def cast_picture(mesh: RenderMesh, entry: Mapping[str, Any]) -> np.ndarray:
    """Cast rays at a mesh.

    Args:
        mesh: triangles in the frame of the GLB, y up.
        entry: see `truth.render_entry`; the field of view is that of the longer side, as Blender takes it.

    Returns:
        (height, width, 4) uint8, transparent where nothing is hit.
    """
    height, width = entry["height"] * _SUPERSAMPLE, entry["width"] * _SUPERSAMPLE
    half = math.tan(entry["fov"] / 2) / max(width, height)
    x = (2 * np.arange(width) + 1 - width) * half
    y = (height - 1 - 2 * np.arange(height)) * half
    in_camera = np.stack([*np.meshgrid(x, y), np.full((height, width), -1.0)], axis=-1).reshape(-1, 3)
    to_yup = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    turn = to_yup @ Rotation.from_euler("xyz", entry["camera_rotation"], degrees=True).as_matrix()
    rays = (in_camera @ turn.T).astype(np.float32)
    eye = np.tile(np.float32(to_yup @ np.asarray(entry["camera_pos"])), (len(rays), 1))
    triangles = np.ascontiguousarray(mesh.vertices[mesh.faces], np.float32)
    scene = EmbreeScene()
    TriangleMesh(scene, triangles)
    found = scene.run(eye, rays, output=1)
    hit = np.flatnonzero(found["primID"] >= 0)
    face = found["primID"][hit]
    corners = triangles[face]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = facing_eye(normals / np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12), rays[hit])
    light = received_light(normals, _AMBIENT, _SUN_STRENGTH * (normals @ _SUN).clip(min=0))
    colours = mesh.point_colours(face, found["u"][hit], found["v"][hit]) * light[:, None]
    pixels = np.zeros((len(rays), 4), np.float32)
    pixels[hit, :3], pixels[hit, 3] = colours.clip(0, 1), 1
    blocks = pixels.reshape(entry["height"], _SUPERSAMPLE, entry["width"], _SUPERSAMPLE, 4)
    mean = blocks.mean(axis=(1, 3))
    mean[..., :3] /= mean[..., 3:].clip(1e-6)  # colours are not darkened by what is transparent
    return np.round(mean * 255).astype(np.uint8)


def _cameras(path: Path) -> dict[str, Any]:
    try:
        cameras = read_json(path)
    except ValueError as error:
        cameras = str(error)
    if not isinstance(cameras, dict):
        raise MetadataError(
            f"{path}: expected the cameras of scenes as JSON, got {str(cameras)[:80]}; remove the file and "
            "run build_scene.py again, which writes them all"
        )
    return cameras


def write_part(folder: Path, worker: str, entries: Mapping[str, Any]) -> None:
    """Write the cameras of one worker, which `merge_parts` takes into ``render_cfg.json``."""
    atomic_write_text(folder / PART_NAME.format(worker), json.dumps(dict(entries), indent=1) + "\n")


def merge_parts(folder: Path) -> int:
    """Take the parts of all workers into ``render_cfg.json``, sorted, and remove them.

    Returns:
        The number of scenes in it.

    Raises:
        MetadataError: one of the files is damaged.
    """
    path = folder / CONFIG_NAME
    parts = sorted(folder.glob(PART_NAME.format("*")))
    merged: dict[str, Any] = {}
    for source in [path, *parts]:
        if source.is_file():
            merged |= _cameras(source)
    if parts:
        ordered = {name: merged[name] for name in sorted(merged)}
        atomic_write_text(path, json.dumps(ordered, indent=1) + "\n")
    for part in parts:
        part.unlink()
    return len(merged)
