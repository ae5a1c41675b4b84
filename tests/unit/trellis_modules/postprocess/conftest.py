"""A sphere with a known colour at every point, and pictures of it."""

from dataclasses import dataclass

import pytest
import torch
import trimesh
from torch import Tensor

from trellis_modules.postprocess import Observations, TexturedMesh
from trellis_modules.renderers import render_mesh
from trellis_modules.renderers.cameras import multiview_cameras


@dataclass(frozen=True)
class ColouredSphere:
    """Radius 0.45, smooth colours."""

    vertices: Tensor
    faces: Tensor

    def colour(self, points_zup: Tensor) -> Tensor:
        """True colour (N, 3) in [0.15, 0.85]."""
        return 0.5 + 0.35 * torch.sin(7 * points_zup + torch.tensor([0.0, 1, 2]))

    def observe(self, num_views: int = 16, size: int = 96) -> Observations:
        """Antialiased pictures over black."""
        extrinsics, intrinsics = multiview_cameras(num_views)
        rendering = render_mesh(
            self.vertices, self.faces, extrinsics, intrinsics, size,
            vertex_attributes=self.colour(self.vertices), ssaa=2,
        )  # fmt: skip
        return Observations(rendering.colour, rendering.alpha, extrinsics, intrinsics)

    def error(self, mesh: TexturedMesh) -> Tensor:
        """Absolute differences (N,) between the texture and the truth at points all over the surface."""
        faces = torch.from_numpy(mesh.faces).long()
        weights = torch.tensor([[1, 1, 1], [4, 1, 1], [1, 4, 1], [1, 1, 4], [0, 1, 1], [1, 1, 0]]).float()
        weights = weights / weights.sum(dim=1, keepdim=True)
        x, y, z = (weights @ torch.from_numpy(mesh.vertices)[faces]).reshape(-1, 3).unbind(1)
        u, v = (weights @ torch.from_numpy(mesh.uvs)[faces]).reshape(-1, 2).unbind(1)
        texture = torch.from_numpy(mesh.texture).float().permute(2, 0, 1)[None] / 255
        grid = torch.stack([2 * u - 1, 1 - 2 * v], dim=1)[None, None]
        colour = torch.nn.functional.grid_sample(texture, grid, padding_mode="border", align_corners=False)
        truth = self.colour(torch.stack([x, -z, y], dim=1))
        return (colour[0, :, 0].mT - truth).abs().mean(dim=1)


@pytest.fixture(scope="session")
def sphere() -> ColouredSphere:
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=0.45)  # 5120 faces
    return ColouredSphere(torch.tensor(mesh.vertices).float(), torch.tensor(mesh.faces))
