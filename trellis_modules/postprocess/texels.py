"""The points of a surface that the texels of its texture show."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trellis_modules.renderers.backends.torch_rasterizer import rasterize
from trellis_modules.representations.mesh.normals import face_normals


@dataclass(frozen=True)
class SurfaceTexels:
    """T texels of a square texture that lie on the surface.

    Attributes:
        size: texels per edge of the texture.
        index: (T,) int64, row * size + column; row 0 is the top, v = 1.
        face: (T,) int64.
        barycentric: (T, 3) weights of the corners of the face.
        position: (T, 3) in the frame of the mesh.
        normal: (T, 3) unit normal of the face.
    """

    size: int
    index: Tensor
    face: Tensor
    barycentric: Tensor
    position: Tensor
    normal: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def picture(self, values: Tensor) -> Tensor:
        """Put values (T, C) of the texels into a picture (S, S, C); 0 elsewhere."""
        picture = values.new_zeros(self.size**2, values.shape[1])
        picture[self.index] = values
        return picture.view(self.size, self.size, -1)

    def covered(self) -> Tensor:
        """(S, S) bool: where the texture shows the surface."""
        return self.picture(torch.ones_like(self.position[:, :1]))[..., 0] > 0


def surface_texels(corners: Tensor, corner_uvs: Tensor, size: int) -> SurfaceTexels:
    """Find the texels whose centres lie in a triangle.

    A triangle between the centres gets the texel at its middle, unless that shows another one.

    Args:
        corners: (F, 3, 3) positions.
        corner_uvs: (F, 3, 2) in [0, 1], v up.
        size: texels per edge.
    """
    xy = torch.stack([corner_uvs[..., 0], 1 - corner_uvs[..., 1]], dim=-1) * size
    flat = torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1)
    picture = torch.zeros(len(xy), dtype=torch.int64, device=xy.device)
    owner = rasterize(flat, picture, 1, size, size, perspective=False).face.flatten()
    _claim_middles(owner, xy, size)
    index = (owner >= 0).nonzero()[:, 0]
    face = owner[index]
    centres = torch.stack([index % size, index // size], dim=1) + 0.5
    barycentric = _barycentric(centres, xy[face])
    return SurfaceTexels(
        size,
        index,
        face,
        barycentric,
        position=(corners[face] * barycentric[..., None]).sum(dim=1),
        normal=face_normals(corners)[face],
    )


def _claim_middles(owner: Tensor, xy: Tensor, size: int) -> None:
    """Enter triangles (F, 3, 2) that own no texel into ``owner`` (S * S,) at their middles, where free."""
    has_texel = torch.zeros(len(xy) + 1, dtype=torch.bool, device=xy.device)
    has_texel[owner] = True
    lost = (~has_texel[:-1]).nonzero()[:, 0]
    column, row = xy[lost].mean(dim=1).floor().long().clamp(0, size - 1).unbind(1)
    middle = row * size + column
    free = owner[middle] < 0
    owner[middle[free]] = lost[free]


def _barycentric(points: Tensor, triangles: Tensor) -> Tensor:
    """Weights (T, 3) of the corners (T, 3, 2) at points (T, 2), without negative ones outside."""
    origin = triangles[:, 0]
    (ax, ay), (bx, by) = (triangles[:, 1] - origin).unbind(1), (triangles[:, 2] - origin).unbind(1)
    px, py = (points - origin).unbind(1)
    area = ax * by - ay * bx
    area = torch.where(area == 0, torch.ones_like(area), area)
    second, third = (px * by - py * bx) / area, (ax * py - ay * px) / area
    weights = torch.stack([1 - second - third, second, third], dim=1).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)
