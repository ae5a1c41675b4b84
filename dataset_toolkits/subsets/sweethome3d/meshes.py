"""Loading of one catalogue model: OBJ parts, catalogue transform to true size, face colours, object frame."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from dataset_toolkits.subsets.sweethome3d.catalogue import CatalogueEntry
from scenegen.datasets.model_files import load_model_file
from scenegen.synthesis.furniture.records import FurnitureMesh, normalise
from trellis_modules.representations.mesh.triangle_arrays import weld

logger = logging.getLogger(__name__)

DEFAULT_COLOUR = (204, 204, 204)
# Exporters write a black diffuse colour beside a texture when only the texture counts.
BLACK_LEVEL = 0.05
# Points of a triangle at which its texture is read: the centroid and six points towards corners and edges.
_BARYCENTRIC = np.array(
    [[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4], [3, 3, 1], [1, 3, 3], [3, 1, 3]], dtype=np.float64
)
_BARYCENTRIC /= _BARYCENTRIC.sum(axis=1, keepdims=True)


class MeshError(ValueError):
    """A furniture model cannot be loaded."""


@dataclass(frozen=True)
class TexturedPart:
    """Triangles of one material.

    Attributes:
        vertices: (V, 3) float64; y up.
        faces: (F, 3) int.
        uv: (V, 2) float64 with v upwards, or None.
        colour: (3,) sRGB diffuse colour in [0, 1].
        texture: image multiplied by `colour`, or None.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray | None
    colour: np.ndarray
    texture: Image.Image | None


def load_parts(obj_path: Path) -> list[TexturedPart]:
    """Load an OBJ with its materials, one part a material, vertices as in the file.

    Raises:
        MeshError: the file is missing, unreadable or holds no triangle.
    """
    try:
        scene = load_model_file(obj_path, group_material=True)
    except ValueError as error:
        raise MeshError(f"{obj_path}: expected a readable OBJ model: {error}") from error
    parts = [
        _part(mesh)
        for mesh in scene.geometry.values()
        if isinstance(mesh, trimesh.Trimesh) and len(mesh.faces)
    ]
    if not parts:
        raise MeshError(f"{obj_path}: expected triangles, found none")
    return parts


def place_parts(
    parts: Sequence[TexturedPart], entry: CatalogueEntry
) -> tuple[list[TexturedPart], np.ndarray]:
    """Apply the catalogue: rotate, stretch the box to the true size, then bring it to the object frame.

    Args:
        parts: as loaded.
        entry: gives `rotation` and `size_m`.

    Returns:
        The parts in the object frame (unit box, y up, front +z) and the (3,) box sides in metres. A side that
        the model does not have (a flat rug) stays 0.
    """
    rotation = np.asarray(entry.rotation).reshape(3, 3)
    rotated = [part.vertices @ rotation.T for part in parts]
    low = np.min([vertices.min(axis=0) for vertices in rotated], axis=0)
    extent = np.max([vertices.max(axis=0) for vertices in rotated], axis=0) - low
    scale = np.divide(entry.size_m, extent, out=np.ones(3), where=extent > 1e-9)
    placed, size_m = normalise(np.concatenate([vertices * scale for vertices in rotated]))
    pieces = np.split(placed, np.cumsum([len(vertices) for vertices in rotated])[:-1])
    moved = [
        TexturedPart(vertices, part.faces, part.uv, part.colour, part.texture)
        for part, vertices in zip(parts, pieces, strict=True)
    ]
    return moved, size_m


def face_coloured(parts: Sequence[TexturedPart], tolerance: float = 1e-5) -> FurnitureMesh:
    """Join parts into one welded mesh whose faces carry the mean colour of material times texture."""
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=True)])
    colours = np.concatenate([part_face_colours(part) for part in parts])
    vertices, faces, kept = weld(np.concatenate([part.vertices for part in parts]), faces, tolerance)
    return FurnitureMesh(vertices, faces, colours[kept])


def part_face_colours(part: TexturedPart) -> np.ndarray:
    """(F, 3) uint8 colours: diffuse colour times the alpha-weighted mean of the texture over each face."""
    colours = np.broadcast_to(part.colour, (len(part.faces), 3))
    if part.texture is not None and part.uv is not None:
        colours = colours * _mean_texture(part.texture, part.uv[part.faces])
    return np.round(np.clip(colours, 0, 1) * 255).astype(np.uint8)


def _mean_texture(texture: Image.Image, uv: np.ndarray) -> np.ndarray:
    """Mean colour (F, 3) in [0, 1] of a repeating texture over triangles with corners uv (F, 3, 2)."""
    texels = np.asarray(texture.convert("RGBA"), dtype=np.float32) / 255  # (H, W, 4)
    height, width = texels.shape[:2]
    points = np.einsum("sk,fkc->fsc", _BARYCENTRIC, uv)  # (F, S, 2)
    points = points - np.floor(points)
    columns = np.minimum((points[..., 0] * width).astype(int), width - 1)
    rows = np.minimum(((1 - points[..., 1]) * height).astype(int), height - 1)
    samples = texels[rows, columns]  # (F, S, 4)
    weights = samples[..., 3:] + 1e-3  # where all is transparent the plain mean remains
    return (samples[..., :3] * weights).sum(axis=1) / weights.sum(axis=1)


def _part(mesh: trimesh.Trimesh) -> TexturedPart:
    material = getattr(mesh.visual, "material", None)
    texture = getattr(material, "image", None)
    diffuse = getattr(material, "diffuse", None)
    colour = np.asarray(DEFAULT_COLOUR if diffuse is None else diffuse[:3], dtype=np.float64) / 255
    if texture is not None and colour.max() < BLACK_LEVEL:
        colour = np.ones(3)
    uv = getattr(mesh.visual, "uv", None)
    return TexturedPart(
        vertices=np.asarray(mesh.vertices, dtype=np.float64),
        faces=np.asarray(mesh.faces),
        uv=None if uv is None else np.asarray(uv, dtype=np.float64),
        colour=colour,
        texture=texture if uv is not None else None,
    )
