"""Faces seen by cameras, by nvdiffrast on an NVIDIA GPU."""

from __future__ import annotations

import nvdiffrast.torch as dr
import torch
from torch import Tensor

from trellis_modules.renderers.cameras import Cameras
from trellis_modules.renderers.projection import intrinsics_to_projection

_VIEWS_AT_ONCE = 8


def run(vertices: Tensor, faces: Tensor, cameras: Cameras) -> Tensor:
    """Backend entry point, see ``renderers.backends``."""
    context = dr.RasterizeCudaContext(device=vertices.device)
    projection = intrinsics_to_projection(cameras.intrinsics, cameras.near, cameras.far)
    # y grows downwards here as row numbers do, so the principal point keeps its sign (and no row is flipped)
    projection[:, 1, 2] = 2 * cameras.intrinsics[:, 1, 2] - 1
    # clip depth from [0, w] to [-w, w]
    to_opengl = torch.diag(vertices.new_tensor([1.0, 1.0, 2.0, 1.0]))
    to_opengl[2, 3] = -1.0
    clip = to_opengl @ projection @ cameras.extrinsics
    homogeneous = torch.nn.functional.pad(vertices.detach(), (0, 1), value=1.0)
    triangles = faces.int().contiguous()
    seen = []
    for part in clip.split(_VIEWS_AT_ONCE):
        raster, _ = dr.rasterize(
            context,
            (homogeneous @ part.mT).contiguous(),
            triangles,
            cameras.shape,
            grad_db=False,
        )
        seen.append(raster[..., 3].round().long() - 1)
    return torch.cat(seen)
