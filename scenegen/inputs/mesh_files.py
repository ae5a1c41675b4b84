"""Meshes that people bring, read within limits and brought to the frame of generated objects."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import trimesh
from scipy.spatial import ConvexHull, QhullError

from safe_files.limits import MAX_GLB_BYTES, MAX_GLB_ROWS
from safe_files.regular import UnreadableFile, read_bytes
from scenegen.inputs.image_files import SceneInputError

MESH_SUFFIXES = (".glb", ".obj", ".ply", ".stl")

_MIN_VOLUME = 1e-6  # of the convex hull, in cubed longest sides: a sheet of a thousandth of its sides
_DAMAGE = (  # what the readers raise for files that contradict themselves
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    OverflowError,
    struct.error,
)


def read_mesh(path: Path) -> trimesh.Trimesh:
    """Read a mesh: all its parts as one, in the y-up frame of objects, box centred with longest side 1.

    The file's y is taken as up, as glTF has it, and +z as the front. Textures and colours stay.

    Raises:
        SceneInputError: the file is missing, of another kind, damaged, too large, or its mesh has no volume.
    """
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise SceneInputError(
            f"{path}: expected a mesh as {', '.join(MESH_SUFFIXES)}, got {path.suffix or 'no ending'}; "
            "export it as .glb"
        )
    try:
        content = read_bytes(path, MAX_GLB_BYTES)
        loaded = trimesh.load_scene(io.BytesIO(content), file_type=path.suffix[1:].lower(), process=False)
        for part in loaded.geometry.values():
            if isinstance(part, trimesh.Trimesh):
                _settle_colours(part, is_linear=path.suffix.lower() == ".glb")
        mesh = loaded.to_mesh()
    except FileNotFoundError as error:
        raise SceneInputError(f"{path}: expected a mesh, found no such file; check the path") from error
    except (UnreadableFile, OSError) as error:
        raise SceneInputError(f"{path}: expected a readable mesh ({error}); export it again") from error
    except _DAMAGE as error:
        raise SceneInputError(
            f"{path}: expected a mesh, reading stopped ({type(error).__name__}: {str(error)[:80]}); export "
            "it again"
        ) from error
    return _normalised(path, mesh)


def _settle_colours(mesh: trimesh.Trimesh, is_linear: bool) -> None:
    """Give a mesh a picture of the base colour, colours at its vertices in sRGB, or neither.

    A material without a picture, which the reader takes for a texture, leaves the colours of the vertices
    where there are any, then the one colour of the material.

    Args:
        mesh: a part of a file.
        is_linear: whether the file keeps colours in linear light, as glTF does.
    """
    visual = mesh.visual
    if visual.kind == "texture":
        if hasattr(visual.material, "to_pbr"):
            visual.material = visual.material.to_pbr()
        if visual.uv is not None and visual.material.baseColorTexture is not None:
            return
        colours = visual.vertex_attributes.get("color")
        if colours is None and visual.material.baseColorFactor is not None:
            colours = np.tile(visual.material.baseColorFactor, (len(mesh.vertices), 1))
    else:
        colours = visual.vertex_colors if visual.kind == "vertex" else None
    if colours is None:
        if visual.kind == "texture":
            mesh.visual = trimesh.visual.ColorVisuals()
        return
    rgba = trimesh.visual.color.to_rgba(colours).copy()
    if is_linear:
        rgba[:, :3] = np.rint(_linear_to_srgb(rgba[:, :3] / 255.0) * 255)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=rgba)


def _linear_to_srgb(values: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB (IEC 61966-2-1)."""
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def _normalised(path: Path, mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    count = max(len(mesh.vertices), len(mesh.faces)) if isinstance(mesh, trimesh.Trimesh) else 0
    if not count or not len(mesh.faces) or count > MAX_GLB_ROWS:
        raise SceneInputError(
            f"{path}: expected a mesh of 1 to {MAX_GLB_ROWS} triangles, got {count}; export it again"
        )
    if not np.isfinite(mesh.vertices).all():
        raise SceneInputError(f"{path}: expected finite vertices, got others; export the mesh again")
    low, high = mesh.bounds
    side = float((high - low).max())
    scaled = (mesh.vertices - (low + high) / 2) / side if side > 0 else mesh.vertices
    volume = _hull_volume(scaled[np.unique(mesh.faces)]) if side > 0 else 0.0
    if volume < _MIN_VOLUME:
        raise SceneInputError(
            f"{path}: expected a mesh with a volume, got a flat one ({volume:.1g} of its cube); give it a "
            "thickness"
        )
    mesh.vertices = scaled
    return mesh


def _hull_volume(points: np.ndarray) -> float:
    try:
        return float(ConvexHull(points).volume)
    except (QhullError, ValueError):  # all points in a plane, or fewer than four
        return 0.0
