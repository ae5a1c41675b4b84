"""Generated scenes as trimesh scenes, and what every format reads of their meshes."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from torch import Tensor

from scenegen.geometry import apply_transform
from scenegen.pipelines.assembly import scene_transforms
from scenegen.pipelines.result import SceneResult


def build_scene(result: SceneResult) -> trimesh.Scene:
    """Assemble the objects that have a mesh: nodes ``obj_<k>``, y up, box centred with longest side 1.96."""
    shown = [item for item in result.objects if item.mesh is not None]
    poses = torch.stack([item.pose for item in shown])
    transforms = scene_transforms([item.mesh.vertices for item in shown], poses)
    scene = trimesh.Scene()
    for item, transform in zip(shown, transforms, strict=True):
        scene.add_geometry(item.mesh, node_name=item.node, geom_name=item.node, transform=transform)
    return scene


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
