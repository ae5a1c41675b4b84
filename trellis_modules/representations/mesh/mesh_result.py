"""The mesh that the structured-latent mesh decoder yields."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class MeshTrainingTerms:
    """What only the training of the mesh decoder uses.

    Attributes:
        regularization: () loss: agreement of cubes about shared vertices, even dual vertices, small weights.
        grid_positions: (V, 3), deformed grid vertices of the active cubes.
        grid_sdf: (V,), their signed distances.
    """

    regularization: Tensor
    grid_positions: Tensor
    grid_sdf: Tensor


@dataclass(frozen=True)
class MeshExtractResult:
    """Triangles in the object frame (z up, grid cube [-0.5, 0.5]).

    Attributes:
        vertices: (V, 3) float.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        vertex_attrs: (V, 6) colour and normal map in [0, 1], or None.
        resolution: cubes per edge of the grid it was extracted from.
        training: extra terms, None at inference.
    """

    vertices: Tensor
    faces: Tensor
    vertex_attrs: Tensor | None
    resolution: int
    training: MeshTrainingTerms | None = None

    @property
    def success(self) -> bool:
        """Whether there is any surface."""
        return len(self.vertices) > 0 and len(self.faces) > 0

    def face_normals(self) -> Tensor:
        """Unit normals (F, 3); zero for degenerate triangles."""
        return torch.nn.functional.normalize(self._area_vectors(), dim=1)

    def vertex_normals(self) -> Tensor:
        """Area-weighted unit normals (V, 3); zero for vertices without a face."""
        rows = self.faces.flatten()
        area = self._area_vectors().repeat_interleave(3, dim=0)
        return torch.nn.functional.normalize(torch.zeros_like(self.vertices).index_add(0, rows, area), dim=1)

    def _area_vectors(self) -> Tensor:
        """Face normals (F, 3) of length twice the area."""
        a, b, c = self.vertices[self.faces].unbind(1)
        return torch.linalg.cross(b - a, c - a)
