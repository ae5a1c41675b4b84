"""Wavefront OBJ with its material library and a PNG per textured object.

The scene is placed and y up. Objects without a texture have their sRGB colour after the coordinates of each
vertex, which Blender, MeshLab and others read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import trimesh

from scenegen.export.meshes import vertex_colours
from scenegen.geometry import apply_transform
from scenegen.pipelines.result import SceneResult

SCENE_FILE = "scene.obj"
MATERIAL_FILE = "scene.mtl"


def write(result: SceneResult, scene: trimesh.Scene, folder: Path) -> list[str]:
    """Write ``scene.obj``, ``scene.mtl`` and ``obj_<k>_colour.png`` of textured objects."""
    names = [SCENE_FILE, MATERIAL_FILE]
    lines, materials, vertex_count, uv_count = [f"mtllib {MATERIAL_FILE}"], [], 0, 0
    for node in scene.graph.nodes_geometry:
        transform, geometry = scene.graph[node]
        mesh = scene.geometry[geometry]
        picture = None
        if mesh.visual.kind == "texture":
            picture = f"{node}_colour.png"
            mesh.visual.material.baseColorTexture.convert("RGB").save(folder / picture)
            names.append(picture)
        materials += _material(node, picture)
        lines += _object(node, mesh, apply_transform(transform, mesh.vertices), vertex_count, uv_count)
        vertex_count += len(mesh.vertices)
        uv_count += 0 if picture is None else len(mesh.vertices)
    (folder / SCENE_FILE).write_text("\n".join(lines) + "\n", encoding="ascii")
    (folder / MATERIAL_FILE).write_text("\n".join(materials) + "\n", encoding="ascii")
    return names


def _material(name: str, picture: str | None) -> list[str]:
    """A rough, non-metallic material, in the common extension of the format for PBR (Pr, Pm)."""
    lines = [f"newmtl {name}", "Kd 1 1 1", "Ks 0 0 0", "illum 1", "Pr 1", "Pm 0"]
    return [*lines, *([] if picture is None else [f"map_Kd {picture}"]), ""]


def _object(
    name: str, mesh: trimesh.Trimesh, vertices: np.ndarray, first_vertex: int, first_uv: int
) -> Iterable[str]:
    """Lines of one object; numbers in the file start at 1 and go on from object to object."""
    is_textured = mesh.visual.kind == "texture"
    lines = [f"o {name}", f"usemtl {name}"]
    if is_textured:
        lines += ["v {:.6f} {:.6f} {:.6f}".format(*row) for row in vertices]
        lines += ["vt {:.6f} {:.6f}".format(*row) for row in mesh.visual.uv]
        corner = "{0}/{1}".format
    else:
        rows = np.hstack([vertices, vertex_colours(mesh) / 255.0])
        lines += ["v {:.6f} {:.6f} {:.6f} {:.4f} {:.4f} {:.4f}".format(*row) for row in rows]
        corner = "{0}".format
    for face in mesh.faces + 1:
        lines.append("f " + " ".join(corner(first_vertex + index, first_uv + index) for index in face))
    return lines
