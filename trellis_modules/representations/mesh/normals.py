"""Normals of triangle meshes."""

from __future__ import annotations

import torch
from torch import Tensor


def area_vectors(corners: Tensor) -> Tensor:
    """Normals (..., 3) of triangles (..., 3, 3), of length twice their area."""
    a, b, c = corners.unbind(-2)
    return torch.linalg.cross(b - a, c - a)


def face_normals(corners: Tensor) -> Tensor:
    """Unit normals (..., 3) of triangles (..., 3, 3); zero for degenerate ones.

    They point to the side from which the corners run counter-clockwise.
    """
    return torch.nn.functional.normalize(area_vectors(corners), dim=-1)


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Area-weighted unit normals (V, 3) of a mesh; zero for vertices without a face.

    Args:
        vertices: (V, 3) float.
        faces: (F, 3) int64.
    """
    area = area_vectors(vertices[faces]).repeat_interleave(3, dim=0)
    return torch.nn.functional.normalize(
        torch.zeros_like(vertices).index_add(0, faces.flatten(), area), dim=1
    )
