"""glTF 2.0 in binary form: the scene, with a node per object and the photo's camera; each object alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh

from scenegen.export.frames import SceneFrame
from scenegen.export.meshes import srgb_to_linear
from scenegen.export.names import SCENE_FILE
from scenegen.export.options import ExportOptions
from scenegen.export.photo_facts import PhotoFacts
from scenegen.export.splats import splat_nodes
from scenegen.export.textures import base_colour, encode_picture, is_textured
from scenegen.pipelines.result import SceneResult
from trellis_modules.gltf import GltfMesh, GltfNode, encode_glb


def write(result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions) -> list[str]:
    """Write ``scene.glb``: one node ``obj_<k>`` per object, placed by its translation, rotation and scale.

    Where the photo's camera is known, a camera node ``photo`` shows the scene as the photo does. The parts of
    the room are nodes ``room_floor`` and ``room_wall_<k>``.
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
    frame = SceneFrame.of(result, scene)
    cameras = [] if result.camera is None else [frame.photo_node(result.camera)]
    facts = PhotoFacts.of(result).of_scene_file(frame)
    room = [_mesh_node(part.node, part.mesh(), frame.matrix(), options) for part in result.room]
    content = glb_bytes(scene, result.settings, options, [*room, *further, *cameras], facts)
    (folder / SCENE_FILE).write_bytes(content)
    return [SCENE_FILE]


def write_objects(
    result: SceneResult, scene: trimesh.Scene, folder: Path, options: ExportOptions
) -> list[str]:
    """Write ``obj_<k>.glb``: each object in its own y-up unit frame, with what made it in the extras."""
    shown = [item for item in result.objects if item.mesh is not None]
    nodes = _mesh_nodes([(item.node, item.mesh, np.eye(4)) for item in shown], options)
    for item, node in zip(shown, nodes, strict=True):
        extras = _extras(result.settings if item.settings is None else item.settings)
        content = encode_glb([node], extras, quantise=options.compress)
        (folder / f"{node.name}.glb").write_bytes(content)
    return [f"{item.node}.glb" for item in shown]


def glb_bytes(
    scene: trimesh.Scene,
    settings: Mapping[str, Any] | None = None,
    options: ExportOptions | None = None,
    further: Sequence[GltfNode] = (),
    facts: Mapping[str, Any] | None = None,
) -> bytes:
    """Encode a scene as GLB: a rough, non-metallic material for each object and unit normals.

    Args:
        scene: meshes with a texture or with vertex colours.
        settings: what made it, as JSON types; kept in the extras of the file's ``asset``.
        options: None takes the defaults.
        further: nodes after those of the meshes.
        facts: of the photo, floor and scale, see `PhotoFacts.of_scene_file`; kept there too.
    """
    options = options or ExportOptions()
    placed = []
    for name in scene.graph.nodes_geometry:
        transform, geometry = scene.graph[name]
        placed.append((name, scene.geometry[geometry], transform))
    nodes = [*_mesh_nodes(placed, options), *further]
    return encode_glb(nodes, _extras(settings, facts), quantise=options.compress)


def _extras(settings: Mapping[str, Any] | None, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"settings": dict(settings or {}), **({} if facts is None else {"photo": dict(facts)})}


def _mesh_nodes(
    meshes: Sequence[tuple[str, trimesh.Trimesh, np.ndarray]], options: ExportOptions
) -> list[GltfNode]:
    """Nodes of named and placed meshes; textures, which take longest, are encoded side by side."""
    threads = min(len(meshes), torch.get_num_threads())  # those of a worker, where there are several
    if threads < 2:
        return [_mesh_node(*mesh, options) for mesh in meshes]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda mesh: _mesh_node(*mesh, options), meshes))


def _mesh_node(name: str, mesh: trimesh.Trimesh, transform: np.ndarray, options: ExportOptions) -> GltfNode:
    if is_textured(mesh):
        texture = encode_picture(base_colour(mesh), options.texture_format)
        look = {"uvs": mesh.visual.uv, "texture": texture}
    else:
        rgba = mesh.visual.vertex_colors.copy()
        rgba[:, :3] = np.rint(srgb_to_linear(rgba[:, :3] / 255.0) * 255)
        look = {"colours": rgba}
    return GltfNode(name, GltfMesh(mesh.vertices, mesh.faces, mesh.vertex_normals, **look), transform)
