"""glTF 2.0 in binary form: the scene with a node for each object, and each object alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from trimesh.exchange.gltf import export_glb

from scenegen.export.meshes import srgb_to_linear
from scenegen.export.names import SCENE_FILE
from scenegen.pipelines.result import GeneratedObject, SceneResult

_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963  # glTF 2.0, sec. 5.11.5
_MATERIAL = {
    "name": "vertex_colours",
    "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
}


def write(result: SceneResult, scene: trimesh.Scene, folder: Path) -> list[str]:
    """Write ``scene.glb``: one node ``obj_<k>`` per object with its transform; y up, longest side 1.96."""
    (folder / SCENE_FILE).write_bytes(glb_bytes(scene, result.settings))
    return [SCENE_FILE]


def write_objects(result: SceneResult, scene: trimesh.Scene, folder: Path) -> list[str]:
    """Write ``obj_<k>.glb``: each object in its own y-up unit frame."""
    names = []
    for item in result.objects:
        if item.mesh is not None:
            (folder / f"{item.node}.glb").write_bytes(glb_bytes(_object_scene(item), result.settings))
            names.append(f"{item.node}.glb")
    return names


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


def _object_scene(item: GeneratedObject) -> trimesh.Scene:
    scene = trimesh.Scene()
    scene.add_geometry(item.mesh, node_name=item.node, geom_name=item.node)
    return scene


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
