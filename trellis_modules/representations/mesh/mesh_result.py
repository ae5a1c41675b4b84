"""The mesh that the structured-latent mesh decoder yields."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trellis_modules.representations.mesh.normals import face_normals, vertex_normals


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
        return face_normals(self.vertices[self.faces])

    def vertex_normals(self) -> Tensor:
        """Area-weighted unit normals (V, 3); zero for vertices without a face."""
        return vertex_normals(self.vertices, self.faces)
