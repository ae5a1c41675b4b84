"""Two coloured balls on a grid of 8^3 voxels, with pictures of them, as decoders learn from them."""

import math

import torch
import trimesh

from scenegen.datasets.batch import SparseViewBatch
from trellis_modules.renderers import render_mesh
from trellis_modules.renderers.cameras import fov_intrinsics, orbit_extrinsics

RESOLUTION = 8
CHANNELS = 3
RADII = 0.3, 0.36
COLOURS = (0.9, 0.2, 0.1), (0.1, 0.3, 0.8)


def drawn_batch(size: int = 32) -> SparseViewBatch:
    """Voxels that the surfaces pass, each with the object's colour, and a view of each ball."""
    vertices, faces, coords, feats, pictures = [], [], [], [], []
    extrinsics = orbit_extrinsics(torch.tensor([0.3, 2.0]), torch.tensor([0.2, -0.1]), 2.0).float()
    intrinsics = torch.as_tensor(fov_intrinsics(math.radians(40))).float()
    for number, (radius, colour) in enumerate(zip(RADII, COLOURS)):
        ball = trimesh.creation.icosphere(subdivisions=3, radius=radius)
        vertices.append(torch.tensor(ball.vertices, dtype=torch.float32))
        faces.append(torch.tensor(ball.faces))
        grid = torch.cartesian_prod(*[torch.arange(RESOLUTION)] * 3)
        middle = (grid + 0.5) / RESOLUTION - 0.5
        shell = (middle.norm(dim=1) - radius).abs() < 0.9 / RESOLUTION
        coords.append(torch.cat([torch.full((int(shell.sum()), 1), number), grid[shell]], dim=1))
        feats.append(torch.tensor(colour).expand(int(shell.sum()), -1))
        pictures.append(
            render_mesh(
                vertices[-1],
                faces[-1],
                extrinsics[number, None],
                intrinsics,
                size,
                vertex_attributes=torch.tensor(colour).expand(len(vertices[-1]), -1),
            )
        )
    return SparseViewBatch(
        torch.cat(coords).int(),
        torch.cat(feats),
        torch.cat([picture.colour for picture in pictures]).permute(0, 3, 1, 2),
        torch.cat([picture.alpha for picture in pictures]),
        extrinsics,
        intrinsics.expand(2, -1, -1),
        tuple(vertices),
        tuple(faces),
    )
