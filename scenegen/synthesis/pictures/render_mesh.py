"""Meshes as the ray caster wants them: flat face colours, and textures where a model has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from struct import error as StructError

import numpy as np
import trimesh
from PIL import Image

from scenegen.datasets.model_files import load_model_file
from scenegen.synthesis.furniture.records import FurnitureMesh
from scenegen.synthesis.layouts.scene_layout import PlacedObject, augment_vertices

READABLE = (".obj", ".glb", ".gltf", ".ply", ".stl")
"""Endings of the models that `load_model` reads."""

# Faults of the model, and of textures and colours, which are decoded when they are looked at.
_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    SyntaxError,
    StructError,
    EOFError,
)
_BLACK_LEVEL = 12  # of 255: exporters write black beside a texture when only the texture counts


@dataclass(frozen=True)
class RenderMesh:
    """Triangles in the object frame (y up, box centred, longest side 1).

    Attributes:
        vertices: (V, 3) float32.
        faces: (F, 3) int32.
        face_colours: (F, 3) uint8 sRGB; multiplies the texture where there is one.
        uv: (F, 3, 2) float32, v upwards, one pair a corner; zeros where there is no texture.
        face_textures: (F,) int32 index into ``textures``, -1 without texture.
        textures: uint8 images (H, W, 3).
    """

    vertices: np.ndarray
    faces: np.ndarray
    face_colours: np.ndarray
    uv: np.ndarray
    face_textures: np.ndarray
    textures: tuple[np.ndarray, ...] = ()

    @classmethod
    def from_furniture(cls, mesh: FurnitureMesh) -> RenderMesh:
        """Take a face-coloured mesh as it is."""
        count = len(mesh.faces)
        no_uv, no_texture = np.zeros((count, 3, 2), np.float32), np.full(count, -1, np.int32)
        return cls(mesh.vertices, mesh.faces, mesh.face_colours, no_uv, no_texture)

    def augmented(self, placed: PlacedObject) -> RenderMesh:
        """The mesh with the mirroring and stretch of ``placed``."""
        if not placed.mirror and placed.stretch == (1.0, 1.0, 1.0):
            return self
        vertices = augment_vertices(self.vertices, placed)
        if not placed.mirror:
            return replace(self, vertices=vertices)
        return replace(self, vertices=vertices, faces=self.faces[:, ::-1], uv=self.uv[:, ::-1])

    def point_colours(self, faces: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Surface colour at points of faces.

        Args:
            faces: (P,) face indices.
            u, v: (P,) barycentric weights of the faces' second and third corners.

        Returns:
            (P, 3) float32 sRGB in [0, 1].
        """
        colours = self.face_colours[faces].astype(np.float32) / 255
        texture_of = self.face_textures[faces]
        for index, texture in enumerate(self.textures):
            here = np.flatnonzero(texture_of == index)
            weights = np.stack([1 - u[here] - v[here], u[here], v[here]], axis=1)
            colours[here] *= _sample(texture, np.einsum("pk,pkc->pc", weights, self.uv[faces[here]]))
        return colours


def load_glb(path: Path) -> RenderMesh:
    """Read a model's GLB (object frame) with base colours and textures.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or holds no triangle.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a GLB of a furniture model; prepare the data set first")
    try:
        return _joined(path, load_model_file(path))
    except _UNREADABLE as error:
        raise ValueError(f"{path}: not readable as a GLB: {error or type(error).__name__}") from error


def load_model(path: Path) -> RenderMesh:
    """Read a model with colours and textures, in the axes and the unit of its file.

    Args:
        path: OBJ with its material library, GLB, glTF, PLY or STL.

    Raises:
        ValueError: the file, or one that it names, is missing, of another kind, or cut off; it holds no
            triangle, or vertices that are not finite or all at one point.
    """
    kind = path.suffix.lower()
    if kind not in READABLE:
        raise ValueError(f"{path}: expected one of {', '.join(READABLE)}, got {kind or 'no ending'!r}")
    options = {"group_material": True} if kind == ".obj" else {}
    try:
        mesh = _joined(path, load_model_file(path, **options))
    except _UNREADABLE as error:
        raise ValueError(f"{path}: not readable as a model: {error or type(error).__name__}") from error
    if not np.isfinite(mesh.vertices).all():
        raise ValueError(f"{path}: some vertices are not finite; mend the model")
    if not np.ptp(mesh.vertices, axis=0).max() > 0:
        raise ValueError(f"{path}: all vertices lie at one point; the model has no size")
    return mesh


def _joined(path: Path, scene: trimesh.Scene) -> RenderMesh:
    """All triangles of a scene as one mesh."""
    parts = [part for part in scene.dump() if isinstance(part, trimesh.Trimesh) and len(part.faces)]
    if not parts:
        raise ValueError(f"{path}: expected a model with triangles, found none")
    if any(part.faces.min() < 0 or part.faces.max() >= len(part.vertices) for part in parts):
        raise ValueError(f"{path}: some triangles have corners that are not there")
    textures: list[np.ndarray] = []
    pieces = [_read_part(part, textures) for part in parts]
    starts = np.cumsum([0] + [len(part.vertices) for part in parts[:-1]])
    return RenderMesh(
        vertices=np.concatenate([np.asarray(part.vertices, np.float32) for part in parts]),
        faces=np.concatenate([part.faces + start for part, start in zip(parts, starts)]).astype(np.int32),
        face_colours=np.concatenate([piece[0] for piece in pieces]),
        uv=np.concatenate([piece[1] for piece in pieces]),
        face_textures=np.concatenate([piece[2] for piece in pieces]),
        textures=tuple(textures),
    )


def _read_part(
    part: trimesh.Trimesh, textures: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face colours, uv and texture indices of one geometry; its texture is appended to ``textures``."""
    count = len(part.faces)
    uv, face_textures = np.zeros((count, 3, 2), np.float32), np.full(count, -1, np.int32)
    if part.visual.kind != "texture":
        return np.ascontiguousarray(part.visual.face_colors[:, :3]), uv, face_textures
    colour, image = _material_colour(part.visual.material)
    if image is not None and part.visual.uv is not None:
        uv = np.asarray(part.visual.uv, np.float32)[part.faces]
        face_textures[:] = len(textures)
        textures.append(np.asarray(image.convert("RGB")))
    return np.tile(colour, (count, 1)), uv, face_textures


def _material_colour(
    material: trimesh.visual.material.Material,
) -> tuple[np.ndarray, Image.Image | None]:
    """Colour (3,) uint8 sRGB and texture of a material, of a glTF or of a Wavefront library."""
    if isinstance(material, trimesh.visual.material.SimpleMaterial):
        colour, image = np.asarray(material.diffuse[:3], np.uint8), material.image
        hidden = image is not None and colour.max() <= _BLACK_LEVEL
        return (np.full(3, 255, np.uint8) if hidden else colour), image
    factor = getattr(material, "baseColorFactor", None)  # linear light, unlike the texture
    colour = np.full(3, 255, np.uint8) if factor is None else _srgb(np.asarray(factor[:3]))
    return colour, getattr(material, "baseColorTexture", None)


def _srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB, both uint8 (IEC 61966-2-1)."""
    value = linear.astype(np.float64) / 255
    encoded = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)


def _sample(texture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Nearest texel (P, 3) in [0, 1] of a repeating texture at uv (P, 2), v upwards."""
    height, width = texture.shape[:2]
    wrapped = uv - np.floor(uv)
    columns = np.minimum((wrapped[:, 0] * width).astype(int), width - 1)
    rows = np.minimum(((1 - wrapped[:, 1]) * height).astype(int), height - 1)
    return texture[rows, columns].astype(np.float32) / 255
