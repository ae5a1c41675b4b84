"""glTF 2.0 in binary form: the scene, with a node per object and the photo's camera; each object alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import trimesh

from scenegen.export.frames import SceneFrame
from scenegen.export.meshes import srgb_to_linear
from scenegen.export.names import SCENE_FILE
from scenegen.export.options import ExportOptions
from scenegen.export.splats import splat_nodes
from scenegen.export.textures import base_colour, encode_picture, is_textured
from scenegen.pipelines.result import SceneResult
from trellis_modules.gltf import GltfMesh, GltfNode, encode_glb


def write(result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions) -> list[str]:
    """Write ``scene.glb``: one node ``obj_<k>`` per object, placed by its translation, rotation and scale.

    Where the photo's camera is known, a camera node ``photo`` shows the scene as the photo does.
    """
    return _write_scene(result, scene, folder, options, [])


def write_with_splats(
    result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions
) -> list[str]:
    """Write the same with a node ``obj_<k>_splats`` for the 3D Gaussians of each object."""
    return _write_scene(result, scene, folder, options, splat_nodes(result, scene))


def _write_scene(
    result: SceneResult,
    scene: trimesh.Scene,
    folder: Path,
    options: ExportOptions,
    further: Sequence[GltfNode],
) -> list[str]:
    cameras = [] if result.camera is None else [SceneFrame.of(result, scene).photo_node(result.camera)]
    content = glb_bytes(scene, result.settings, options, [*further, *cameras])
    (folder / SCENE_FILE).write_bytes(content)
    return [SCENE_FILE]


def write_objects(
    result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions
) -> list[str]:
    """Write ``obj_<k>.glb``: each object in its own y-up unit frame, with what made it in the extras."""
    names = []
    for item in result.objects:
        if item.mesh is not None:
            node = _mesh_node(item.node, item.mesh, np.eye(4), options)
            extras = _extras(result.settings if item.settings is None else item.settings)
            content = encode_glb([node], extras, quantise=options.compress)
            (folder / f"{item.node}.glb").write_bytes(content)
            names.append(f"{item.node}.glb")
    return names


def glb_bytes(
    scene: trimesh.Scene,
    settings: Mapping[str, Any] | None = None,
    options: ExportOptions | None = None,
    further: Sequence[GltfNode] = (),
) -> bytes:
    """Encode a scene as GLB: a rough, non-metallic material for each object and unit normals.

    Args:
        scene: meshes with a texture or with vertex colours.
        settings: what made it, as JSON types; kept in the extras of the file's ``asset``.
        options: None takes the defaults.
        further: nodes after those of the meshes.
    """
    options = options or ExportOptions()
    nodes = []
    for name in scene.graph.nodes_geometry:
        transform, geometry = scene.graph[name]
        nodes.append(_mesh_node(name, scene.geometry[geometry], transform, options))
    return encode_glb([*nodes, *further], _extras(settings), quantise=options.compress)


def _extras(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"settings": dict(settings or {})}


def _mesh_node(name: str, mesh: trimesh.Trimesh, transform: np.ndarray, options: ExportOptions) -> GltfNode:
    if is_textured(mesh):
        texture = encode_picture(base_colour(mesh), options.texture_format)
        look = {"uvs": mesh.visual.uv, "texture": texture}
    else:
        rgba = mesh.visual.vertex_colors.copy()
        rgba[:, :3] = np.rint(srgb_to_linear(rgba[:, :3] / 255.0) * 255)
        look = {"colours": rgba}
    return GltfNode(name, GltfMesh(mesh.vertices, mesh.faces, mesh.vertex_normals, **look), transform)
