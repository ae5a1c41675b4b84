"""Pictures of octrees: voxels and radiance fields of local tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trellis_modules.renderers.backends import OCTREE_BACKENDS, RaySamples
from trellis_modules.renderers.cameras import Cameras, Size
from trellis_modules.renderers.rendering import Rendering, blended_rendering, sample_shape
from trellis_modules.representations.octree import MAX_DEPTH, VoxelOctree
from trellis_modules.representations.strivec import Strivec

NEAR = 1e-4  # nothing that can be told from the eye is cut away
_LEAST_SAMPLES = 8


def render_octree(
    octree: VoxelOctree | Strivec,
    extrinsics: Tensor,
    intrinsics: Tensor,
    size: Size,
    *,
    background: tuple[float, float, float] = (0, 0, 0),
    near: float = NEAR,
    far: float = math.inf,
    ssaa: int = 1,
    samples: int | None = None,
    offsets: Tensor | None = None,
    backend: str = "auto",
) -> Rendering:
    """Draw an octree from V cameras, with gradients to densities, colours and vectors.

    A leaf, or a sample in a leaf of a field, hides 0.999 of what lies behind it at most, and a ray ends where
    less than 0.001 of the light is left, as in the released renderer. What is better than there:
    depth is that of what is seen (the mean over the inside of voxels, divided by alpha), gradients are true
    ones (but for the cap on what a sample hides, through which they pass), rays start at the eye and not at
    leaves 0.2 before it, and empty views show the background. ``near`` and ``far`` do cut here; the depths
    0.8 and 1.6, which the released code names without effect, are therefore not the defaults.

    Args:
        octree: N leaves that do not overlap; those with numbers that are not finite are left out.
        extrinsics: (V, 4, 4) world to camera, OpenCV axes.
        intrinsics: (3, 3) for all cameras or (V, 3, 3), normalised.
        size: pixels per edge, or (height, width).
        background: colour where nothing is.
        near, far: depths between which rays are followed, 0 < near < far.
        ssaa: samples per pixel and axis.
        samples: places on a ray's way through a leaf where a field is evaluated, spread evenly. None: half
            as many again as the leaf's vectors have values, at least 8. In a field of the released decoder's
            shapes with random values a colour is then 0.0004 from the mean of 40 pictures at random offsets,
            most of it noise of that mean; one of those, as released pictures are, is 0.0022 from it.
        offsets: (V, height * ssaa, width * ssaa) in [0, 1). Instead of ``samples``: put them where the
            released renderer does, every half sample of the vectors, shifted by this share of a step.
        backend: "auto" or a name in ``OCTREE_BACKENDS``.

    Returns:
        Rendering with colour, alpha, depth and percent_depth.

    Raises:
        TypeError: another representation.
        ValueError: shapes or numbers are out of range, or the backend is unknown.
        BackendUnavailable: the named backend cannot run here, or cannot draw this.

    Source: absorption and emission as in Mildenhall et al., "NeRF", 2020; leaves of Strivec as in Gao et al.,
    2023; constants as in TRELLIS, arXiv:2412.01506.
    """
    shape = sample_shape("render_octree", size, ssaa)
    if not isinstance(octree, (VoxelOctree, Strivec)):
        raise TypeError(f"render_octree: expected a VoxelOctree or a Strivec, got {type(octree).__name__}")
    like = octree.nodes.position
    cameras = Cameras.of("render_octree", extrinsics, intrinsics, shape, near, far, like)
    _check_depth(octree)
    ray_samples = _ray_samples(octree, cameras, samples, offsets)
    run = OCTREE_BACKENDS.select(backend, like.device, like.dtype)
    with torch.autocast(like.device.type, enabled=False):
        return blended_rendering(run(octree, cameras, ray_samples), background, ssaa)


def _check_depth(octree: VoxelOctree | Strivec) -> None:
    depth = int(octree.nodes.depth.max()) if len(octree.nodes) else 0
    if depth > MAX_DEPTH:
        raise ValueError(
            f"render_octree: expected leaves of depth 0 to {MAX_DEPTH}, got depth {depth}, beyond which they "
            "are not ordered; merge such leaves into larger ones"
        )


def _ray_samples(
    octree: VoxelOctree | Strivec, cameras: Cameras, samples: int | None, offsets: Tensor | None
) -> RaySamples:
    """Check where a field is to be evaluated; the default of ``render_octree`` if nothing is said."""
    if isinstance(octree, VoxelOctree):
        if samples is not None or offsets is not None:
            raise ValueError(
                "render_octree: voxels are drawn in closed form, got samples or offsets; leave them out"
            )
        return RaySamples(1)
    if samples is not None and (offsets is not None or samples < 1):
        given = "offsets too" if offsets is not None else f"samples {samples}"
        raise ValueError(f"render_octree: expected samples >= 1 or offsets, one of the two, got {given}")
    expected = (len(cameras), *cameras.shape)
    if offsets is not None and tuple(offsets.shape) != expected:
        raise ValueError(
            f"render_octree: expected offsets {expected}, one a sample of a picture, "
            f"got {tuple(offsets.shape)}"
        )
    count = max(3 * octree.samples_per_axis // 2, _LEAST_SAMPLES) if samples is None else samples
    return RaySamples(count, None if offsets is None else offsets.to(octree.nodes.position))
