"""Wavefront OBJ with material libraries and pictures: the scene, placed and y up, and each object alone.

Every object has a picture: its texture, or a small one that shows its vertex colours, because most programs
ignore colours that stand after the coordinates of a vertex. Normals are those of the GLB.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from scenegen.export.options import ExportOptions
from scenegen.export.textures import (
    base_colour,
    corner_texture,
    encode_picture,
    is_textured,
    suffix,
    widely_read,
)
from scenegen.geometry import apply_transform
from scenegen.pipelines.result import SceneResult
from trellis_modules.gltf import unit_normals

_SCENE = "scene"


@dataclass(frozen=True)
class _ObjMesh:
    """One object: a place, a normal and a texture coordinate for each corner, numbered from 0."""

    name: str
    picture: str
    vertices: np.ndarray  # (V, 3), own frame
    normals: np.ndarray  # (V, 3)
    uvs: np.ndarray  # (U, 2)
    faces: np.ndarray  # (F, 3) into vertices and normals
    uv_faces: np.ndarray  # (F, 3) into uvs


def write(result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions) -> list[str]:
    """Write ``scene.obj`` and ``obj_<k>.obj`` with an MTL each, a picture ``obj_<k>_colour`` per object."""
    picture_names, meshes, transforms = [], [], []
    for node in scene.graph.nodes_geometry:
        transform, geometry = scene.graph[node]
        mesh = _obj_mesh(node, scene.geometry[geometry], folder, options)
        picture_names.append(mesh.picture)
        meshes.append(mesh)
        transforms.append(transform)
    names = _write_file(folder, _SCENE, meshes, transforms)
    for mesh in meshes:
        names += _write_file(folder, mesh.name, [mesh], [np.eye(4)])
    return [*names, *picture_names]


def write_object(name: str, mesh: trimesh.Trimesh, folder: Path, options: ExportOptions) -> list[str]:
    """Write one object in its own frame: the names of its OBJ, MTL and picture, in this order."""
    numbered = _obj_mesh(name, mesh, folder, options)
    return [*_write_file(folder, name, [numbered], [np.eye(4)]), numbered.picture]


def _obj_mesh(name: str, mesh: trimesh.Trimesh, folder: Path, options: ExportOptions) -> _ObjMesh:
    """Write the picture of an object and number its corners."""
    vertices, normals, faces = mesh.vertices, unit_normals(mesh.vertex_normals), mesh.faces
    if is_textured(mesh):
        picture, uvs, uv_faces = base_colour(mesh), mesh.visual.uv, faces
        picture_format = widely_read(options.texture_format)
    else:  # texels are faces here: only PNG keeps them apart
        picture, corners = corner_texture(mesh)
        uvs, uv_faces = corners.reshape(-1, 2), np.arange(3 * len(faces)).reshape(-1, 3)
        picture_format = "png"
    file = f"{name}_colour{suffix(picture_format)}"
    (folder / file).write_bytes(encode_picture(picture, picture_format).content)
    return _ObjMesh(name, file, vertices, normals, uvs, faces, uv_faces)


def _write_file(
    folder: Path, stem: str, meshes: Sequence[_ObjMesh], transforms: Sequence[np.ndarray]
) -> list[str]:
    """Write an OBJ file and its material library, and return their names."""
    lines, materials, vertex_count, uv_count = [f"mtllib {stem}.mtl"], [], 0, 0
    for mesh, transform in zip(meshes, transforms, strict=True):
        lines += _object(mesh, transform, vertex_count, uv_count)
        materials += _material(mesh)
        vertex_count += len(mesh.vertices)
        uv_count += len(mesh.uvs)
    (folder / f"{stem}.obj").write_text("\n".join(lines) + "\n", encoding="ascii")
    (folder / f"{stem}.mtl").write_text("\n".join(materials) + "\n", encoding="ascii")
    return [f"{stem}.obj", f"{stem}.mtl"]


def _material(mesh: _ObjMesh) -> list[str]:
    """A rough, non-metallic material, in the common extension of the format for PBR (Pr, Pm)."""
    lines = [f"newmtl {mesh.name}", "Kd 1 1 1", "Ks 0 0 0", "illum 1", "Pr 1", "Pm 0"]
    return [*lines, f"map_Kd {mesh.picture}", ""]


def _object(mesh: _ObjMesh, transform: np.ndarray, first_vertex: int, first_uv: int) -> Iterable[str]:
    """Lines of one placed object; numbers in the file start at 1 and go on from object to object."""
    vertices = apply_transform(transform, mesh.vertices)
    normals = unit_normals(
        mesh.normals @ np.asarray(transform)[:3, :3].T
    )  # the scale is the same in all axes
    lines = [f"o {mesh.name}", f"usemtl {mesh.name}", "s 1"]
    lines += ["v {:.6f} {:.6f} {:.6f}".format(*row) for row in vertices.tolist()]
    lines += ["vt {:.6f} {:.6f}".format(*row) for row in mesh.uvs.tolist()]
    lines += ["vn {:.5f} {:.5f} {:.5f}".format(*row) for row in normals.tolist()]
    corner = "{0}/{1}/{0}".format
    places, coordinates = mesh.faces + (first_vertex + 1), mesh.uv_faces + (first_uv + 1)
    for place, coordinate in zip(places.tolist(), coordinates.tolist(), strict=True):
        lines.append("f " + " ".join(map(corner, place, coordinate)))
    return lines
