"""Pictures of octrees: voxels and radiance fields of local tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trellis_modules.renderers.backends import OCTREE_BACKENDS
from trellis_modules.renderers.cameras import Cameras
from trellis_modules.renderers.gaussian_renderer import NEAR
from trellis_modules.renderers.rendering import Rendering, blended_rendering, sample_size
from trellis_modules.representations.octree import VoxelOctree
from trellis_modules.representations.strivec import Strivec


def render_octree(
    octree: VoxelOctree | Strivec,
    extrinsics: Tensor,
    intrinsics: Tensor,
    size: int,
    *,
    background: tuple[float, float, float] = (0, 0, 0),
    near: float = NEAR,
    far: float = math.inf,
    ssaa: int = 1,
    backend: str = "auto",
) -> Rendering:
    """Draw an octree from V cameras, with gradients to densities, colours and vectors.

    Args:
        octree: N leaves that do not overlap; those with numbers that are not finite are left out.
        extrinsics: (V, 4, 4) world to camera, OpenCV axes.
        intrinsics: (3, 3) for all cameras or (V, 3, 3), normalised.
        size: pixels per edge.
        background: colour where nothing is.
        near, far: depths between which rays are followed, 0 < near < far.
        ssaa: samples per pixel and axis.
        backend: "auto" or a name in ``OCTREE_BACKENDS``.

    Returns:
        Rendering with colour, alpha and depth (the mean over the inside of what is seen).

    Raises:
        TypeError: another representation.
        ValueError: shapes or numbers are out of range, or the backend is unknown.
        BackendUnavailable: the named backend cannot run here.

    Source: absorption and emission as in Mildenhall et al., "NeRF", 2020; leaves of Strivec as in Gao et al.,
    2023. How densities of local tensors are clamped and sampled is ours.
    """
    samples = sample_size("render_octree", size, ssaa)
    if not isinstance(octree, (VoxelOctree, Strivec)):
        raise TypeError(f"render_octree: expected a VoxelOctree or a Strivec, got {type(octree).__name__}")
    like = octree.nodes.position
    cameras = Cameras.of("render_octree", extrinsics, intrinsics, samples, near, far, like)
    run = OCTREE_BACKENDS.select(backend, like.device, like.dtype)
    with torch.autocast(like.device.type, enabled=False):
        blended = run(octree, cameras)
    return blended_rendering(blended, background, ssaa)
