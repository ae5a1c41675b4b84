"""Meshes put together of parts, with the colours, texture coordinates and normals that these have."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import trimesh
from scipy.spatial import cKDTree
from trimesh.visual import ColorVisuals, TextureVisuals


def uvs_of(mesh: trimesh.Trimesh) -> np.ndarray | None:
    """(V, 2) texture coordinates of a mesh; None where it has none."""
    uvs = mesh.visual.uv if isinstance(mesh.visual, TextureVisuals) else None
    return None if uvs is None else np.asarray(uvs)


def rebuilt(
    mesh: trimesh.Trimesh, vertices: np.ndarray, faces: np.ndarray, sources: np.ndarray
) -> trimesh.Trimesh:
    """A mesh whose vertices look like those of another one.

    Args:
        mesh: the object, with a texture, with vertex colours, or plain.
        vertices: (W, 3) of the new mesh.
        faces: (G, 3).
        sources: (W,) vertices of ``mesh`` from which colours and texture coordinates are taken.

    Returns:
        The new mesh without vertices that no face uses; its normals are found anew, smooth across the seams
        of a texture.
    """
    used, compact = np.unique(faces, return_inverse=True)
    corners, points, origin = compact.reshape(-1, 3), vertices[used], sources[used]
    uvs = uvs_of(mesh)
    visual: TextureVisuals | ColorVisuals | None = None
    if uvs is not None:
        visual = TextureVisuals(uv=uvs[origin], material=mesh.visual.material)
    elif mesh.visual.kind == "vertex":
        visual = ColorVisuals(vertex_colors=np.asarray(mesh.visual.vertex_colors)[origin])
    made = trimesh.Trimesh(points, corners, visual=visual, process=False)
    if uvs is not None:
        _, places = np.unique(points, axis=0, return_inverse=True)
        places = places.reshape(-1)
        joined = trimesh.Trimesh(_first(points, places), places[corners], process=False)
        made.vertex_normals = np.asarray(joined.vertex_normals)[places]
    return made


def joined_meshes(meshes: Sequence[trimesh.Trimesh], mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """One mesh of several that share the look of ``mesh``."""
    counts = np.cumsum([0, *(len(each.vertices) for each in meshes)])
    vertices = np.concatenate([np.asarray(each.vertices) for each in meshes])
    faces = np.concatenate([np.asarray(each.faces) + count for each, count in zip(meshes, counts)])
    uvs = [uvs_of(each) for each in meshes]
    visual: TextureVisuals | ColorVisuals | None = None
    if uvs[0] is not None:
        visual = TextureVisuals(uv=np.concatenate(uvs), material=mesh.visual.material)
    elif mesh.visual.kind == "vertex":
        visual = ColorVisuals(
            vertex_colors=np.concatenate([np.asarray(each.visual.vertex_colors) for each in meshes])
        )
    normals = None if uvs[0] is None else np.concatenate([np.asarray(each.vertex_normals) for each in meshes])
    return trimesh.Trimesh(vertices, faces, vertex_normals=normals, visual=visual, process=False)


def prism(mesh: trimesh.Trimesh, ends: np.ndarray, width: float) -> trimesh.Trimesh:
    """A closed square bar between two points (2, 3), with the look of a mesh at the second one."""
    way = ends[1] - ends[0]
    placed = trimesh.geometry.align_vectors((0.0, 0.0, 1.0), way)
    placed[:3, 3] = ends.mean(axis=0)
    bar = trimesh.creation.box((width, width, float(np.linalg.norm(way))), placed)
    source = int(cKDTree(mesh.vertices).query(ends[1])[1])
    vertices = np.asarray(bar.vertices)
    return rebuilt(mesh, vertices, np.asarray(bar.faces), np.full(len(vertices), source))


def _first(points: np.ndarray, places: np.ndarray) -> np.ndarray:
    found = np.empty((places.max(initial=-1) + 1, 3), points.dtype)
    found[places] = points
    return found
