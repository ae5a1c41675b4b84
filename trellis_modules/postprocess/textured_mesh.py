"""The result of post-processing: a mesh with one texture, ready for glTF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial


@dataclass(frozen=True)
class TexturedMesh:
    """A mesh in the object y-up frame with a base colour texture.

    Attributes:
        vertices: (V, 3) float32, y up; doubled along the seams of the texture.
        faces: (F, 3) int32.
        uvs: (V, 2) float32 in [0, 1], v up: row 0 of the texture is v = 1.
        normals: (V, 3) float32 unit normals, smooth across the seams.
        texture: (S, S, 3) uint8 sRGB.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray
    normals: np.ndarray
    texture: np.ndarray

    @classmethod
    def empty(cls, texture: np.ndarray) -> TexturedMesh:
        """A mesh without faces."""
        points = np.zeros((0, 3), dtype=np.float32)
        return cls(points, points.astype(np.int32), points[:, :2], points, texture)

    @property
    def is_empty(self) -> bool:
        """Whether there is no face to draw."""
        return len(self.faces) == 0

    def to_trimesh(self) -> trimesh.Trimesh:
        """The same as a trimesh mesh, rough and not metallic."""
        material = baked_material(Image.fromarray(self.texture))
        return trimesh.Trimesh(
            self.vertices,
            self.faces,
            vertex_normals=self.normals,
            visual=trimesh.visual.TextureVisuals(uv=self.uvs, material=material),
            process=False,
        )


def baked_material(texture: Image.Image) -> PBRMaterial:
    """A rough material that is no metal, with a base colour."""
    return PBRMaterial(
        name="baked",
        baseColorTexture=texture,
        baseColorFactor=np.full(4, 255, dtype=np.uint8),
        metallicFactor=0.0,  # glTF viewers take 1, dark metal, where it is left out
        roughnessFactor=1.0,
    )
