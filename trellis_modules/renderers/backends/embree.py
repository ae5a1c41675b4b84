"""Faces seen by cameras, by ray casting on the CPU: one primary ray through each pixel centre."""

from __future__ import annotations

import numpy as np
import torch
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from torch import Tensor

from trellis_modules.renderers.cameras import Cameras, camera_rays, eye_positions, to_camera


def run(vertices: Tensor, faces: Tensor, cameras: Cameras) -> Tensor:
    """Backend entry point, see ``renderers.backends``; only pixels in the mesh's bounding box are cast."""
    vertices, extrinsics = vertices.detach().float(), cameras.extrinsics.detach().float()
    scene = EmbreeScene()
    TriangleMesh(scene, np.ascontiguousarray(vertices[faces].numpy()))
    seen = torch.full((len(cameras), cameras.size, cameras.size), -1, dtype=torch.int64)
    for view, (pose, lens) in enumerate(zip(extrinsics, cameras.intrinsics.detach().float())):
        rows, columns = _covered(vertices, pose, lens, cameras.size)
        rays = camera_rays(lens, cameras.size)[rows, columns] @ pose[:3, :3]
        # a ray gains depth 1 a unit of its parameter, so the near and far planes are where it starts and ends
        origins = eye_positions(pose) + cameras.near * rays
        reach = np.full(rays.shape[:2].numel(), cameras.far - cameras.near, dtype=np.float32)
        hits = scene.run(origins.view(-1, 3).numpy(), rays.view(-1, 3).numpy(), dists=reach)
        seen[view, rows, columns] = torch.from_numpy(hits).long().view(rays.shape[:2])
    return seen


def _covered(vertices: Tensor, extrinsics: Tensor, intrinsics: Tensor, size: int) -> tuple[slice, slice]:
    """Rows and columns that hold the mesh; all of them unless all of it is in front of the camera."""
    camera = to_camera(vertices, extrinsics)
    if not (camera[:, 2].min() > 0 and camera.isfinite().all()):
        return slice(0, size), slice(0, size)
    pixels = size * (camera[:, :2] / camera[:, 2:] * intrinsics.diagonal()[:2] + intrinsics[:2, 2])
    low = (pixels.amin(0) - 1).clamp(0, size).long().tolist()
    high = (pixels.amax(0) + 2).clamp(0, size).long().tolist()
    return slice(low[1], high[1]), slice(low[0], high[0])
