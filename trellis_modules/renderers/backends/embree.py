"""Faces seen by cameras, by ray casting on the CPU: one primary ray through each pixel centre."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from torch import Tensor

from trellis_modules.renderers.cameras import Cameras, camera_rays, eye_positions, to_camera, to_pixels

# Handing triangles over takes longer than a million rays, and fits ask for the same mesh time and again.
_SCENES_KEPT = 2


def run(vertices: Tensor, faces: Tensor, cameras: Cameras) -> Tensor:
    """Backend entry point, see ``renderers.backends``; only pixels in the mesh's bounding box are cast."""
    vertices, extrinsics = vertices.detach().float(), cameras.extrinsics.detach().float()
    scene = _scene(vertices.numpy().tobytes(), faces.int().numpy().tobytes())
    seen = torch.full((len(cameras), *cameras.shape), -1, dtype=torch.int64)
    corners = _box_corners(vertices)
    for view, (pose, lens) in enumerate(zip(extrinsics, cameras.intrinsics.detach().float())):
        rows, columns = _covered(corners, pose, lens, cameras.shape)
        rays = camera_rays(lens, cameras.shape)[rows, columns] @ pose[:3, :3]
        # a ray gains depth 1 a unit of its parameter, so the near and far planes are where it starts and ends
        origins = eye_positions(pose) + cameras.near * rays
        reach = np.full(rays.shape[:2].numel(), cameras.far - cameras.near, dtype=np.float32)
        hits = scene.run(origins.view(-1, 3).numpy(), rays.view(-1, 3).numpy(), dists=reach)
        seen[view, rows, columns] = torch.from_numpy(hits).long().view(rays.shape[:2])
    return seen


@lru_cache(_SCENES_KEPT)
def _scene(vertices: bytes, faces: bytes) -> EmbreeScene:
    """The search tree of a mesh: (V, 3) float32 and (F, 3) int32."""
    places, corners = (np.frombuffer(*each).reshape(-1, 3) for each in ((vertices, "f4"), (faces, "i4")))
    scene = EmbreeScene()
    TriangleMesh(scene, places[corners].astype(np.float64))  # in two thirds of the time of indexed ones
    return scene


def _box_corners(vertices: Tensor) -> Tensor:
    """The corners (8, 3) of the box around the vertices."""
    return torch.cartesian_prod(*torch.stack(torch.aminmax(vertices, dim=0)).T)


def _covered(
    corners: Tensor, extrinsics: Tensor, intrinsics: Tensor, shape: tuple[int, int]
) -> tuple[slice, slice]:
    """Rows and columns that hold a box; all of them unless all of it is in front of the camera."""
    camera = to_camera(corners, extrinsics)
    if not (camera[:, 2].min() > 0 and camera.isfinite().all()):
        return slice(0, shape[0]), slice(0, shape[1])
    x, y, _ = to_pixels(camera, intrinsics, shape).unbind(1)
    rows, columns = (
        slice(*(int(place.clamp(0, count)) for place in (pixels.amin() - 1, pixels.amax() + 2)))
        for pixels, count in zip((y, x), shape)
    )
    return rows, columns
