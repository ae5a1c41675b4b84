"""Splatting of Gaussians by gsplat on an NVIDIA GPU."""

from __future__ import annotations

from gsplat import rasterization
from torch import Tensor

from trellis_modules.renderers.backends import BlendedViews
from trellis_modules.renderers.cameras import Cameras
from trellis_modules.renderers.spherical_harmonics import sh_to_rgb
from trellis_modules.representations.gaussian import Gaussian

_FARTHEST = 1e10  # stands for infinity


def run(gaussian: Gaussian, cameras: Cameras, kernel_size: float) -> BlendedViews:
    """Backend entry point, see ``renderers.backends``."""
    if not len(gaussian) or not len(cameras):  # there is nothing to launch a kernel for
        return _nothing(gaussian.hidden_xyz, cameras)
    lenses = cameras.intrinsics * cameras.intrinsics.new_tensor([cameras.width, cameras.height, 1])[:, None]
    pictures, alpha, _ = rasterization(
        gaussian.xyz,
        gaussian.rotation,
        gaussian.scaling,
        gaussian.opacity[:, 0],
        sh_to_rgb(gaussian.features[:, 0]).clamp_min(0),
        cameras.extrinsics.contiguous(),
        lenses,
        cameras.width,
        cameras.height,
        near_plane=cameras.near,
        far_plane=min(cameras.far, _FARTHEST),
        eps2d=kernel_size,
        render_mode="RGB+D",
        rasterize_mode="antialiased",
        packed=False,
    )
    return BlendedViews(pictures[..., :3], pictures[..., 3], alpha[..., 0])


def _nothing(like: Tensor, cameras: Cameras) -> BlendedViews:
    """Views without anything in them."""
    empty = like.new_zeros(len(cameras), *cameras.shape)
    return BlendedViews(empty[..., None].expand(*empty.shape, 3), empty, empty)
