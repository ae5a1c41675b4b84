"""Faces seen by cameras, by ray casting on the CPU: one primary ray through each pixel centre."""

from __future__ import annotations

import numpy as np
import torch
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from torch import Tensor

from trellis_modules.renderers.cameras import camera_rays, eye_positions, to_camera


def run(
    vertices: Tensor,
    faces: Tensor,
    extrinsics: Tensor,
    intrinsics: Tensor,
    size: int,
    near: float,
    far: float,
) -> Tensor:
    """Backend entry point, see ``renderers.backends``.

    Only pixels in the picture's bounding box of the mesh are asked about.
    """
    scene = EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(vertices.detach()[faces].numpy(), dtype=np.float32))
    seen = torch.full((len(extrinsics), size, size), -1, dtype=torch.int64)
    eyes = eye_positions(extrinsics.detach())
    for view, eye in enumerate(eyes):
        rotation = extrinsics[view, :3, :3].detach()
        rows, columns = _covered(vertices.detach(), extrinsics[view].detach(), intrinsics[view], size)
        rays = camera_rays(intrinsics[view].detach(), size)[rows, columns] @ rotation
        directions = rays.reshape(-1, 3).float().numpy()
        # a ray has depth 1 for each unit of its parameter, so the near and far planes are its ends
        origins = (eye + near * rays).reshape(-1, 3).float().numpy()
        limits = np.full(len(directions), far - near, dtype=np.float32)
        hits = scene.run(np.ascontiguousarray(origins), np.ascontiguousarray(directions), dists=limits)
        seen[view, rows, columns] = torch.from_numpy(hits).long().view(rays.shape[:2])
    return seen


def _covered(vertices: Tensor, extrinsics: Tensor, intrinsics: Tensor, size: int) -> tuple[slice, slice]:
    """Rows and columns that hold the mesh; all of them when a part of it is not in front of the camera."""
    camera = to_camera(vertices, extrinsics)
    if camera[:, 2].min() <= 0:
        return slice(0, size), slice(0, size)
    pixels = size * (camera[:, :2] / camera[:, 2:] * intrinsics.diagonal()[:2] + intrinsics[:2, 2])
    low = (pixels.amin(0) - 1).clamp(0, size).long().tolist()
    high = (pixels.amax(0) + 2).clamp(0, size).long().tolist()
    return slice(low[1], high[1]), slice(low[0], high[0])
