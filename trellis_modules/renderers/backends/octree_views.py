"""What the octree backends share: the leaves that pictures show, their order, and their parameters."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trellis_modules.renderers.cameras import Cameras, covered_pixels, to_camera, to_pixels
from trellis_modules.renderers.spherical_harmonics import evaluate_spherical_harmonics
from trellis_modules.representations.octree import MAX_DEPTH, OctreeNodes, VoxelOctree
from trellis_modules.representations.strivec import Strivec

#: What a sample hides at most, and the transmittance below which a ray ends. A sample that reaches the first
#: ends its ray: only as float32 the number is above 1 - LEAST_LIGHT.
MAX_ALPHA = float(np.float32(0.999))
LEAST_LIGHT = 0.001
#: Steps of the released comb of samples along an edge of a leaf, for each value of its vectors.
COMB_STEPS = 2
#: The softplus of a number above this is the number.
SOFTPLUS_LINEAR = 10.0
_SHIFT_SCALE = 10.0
_MAX_RAMP = 25.0


@dataclass(frozen=True)
class TrivecParameters:
    """What a Strivec's leaves hold, as kernels read it.

    Attributes:
        vectors: (N, 3, D, R), by axis, place and component.
        weights: (N, R) of the components in the density.
        shift: subtracted from the density before its activation.
        ramp: factor on the density after it.
    """

    vectors: Tensor
    weights: Tensor
    shift: float
    ramp: float

    @classmethod
    def of(cls, field: Strivec) -> TrivecParameters:
        """Parameters of the components that count."""
        shift = field.density_shift
        return cls(
            field.trivec[:, : field.components].permute(0, 2, 3, 1),
            field.density[:, : field.components],
            _SHIFT_SCALE * shift,
            min(1 / (1 - shift), _MAX_RAMP),
        )


def leaf_colours(octree: VoxelOctree | Strivec, eye: Tensor) -> Tensor:
    """Colours as seen from an eye (3,): harmonics are taken in the direction from it to the leaf's centre.

    Returns:
        (N, 3) of a VoxelOctree, at least 0 and at most 1, or as given in ``leaf_colours``; of a Strivec
        (N, R, 3), what its components add up before the sigmoid, or (N, 3) as given in ``leaf_colours``.
    """
    if octree.leaf_colours is not None:
        return octree.leaf_colours
    features, degree = harmonics(octree)
    directions = octree.nodes.xyz - eye
    if degree:  # else they do not count
        directions = torch.nn.functional.normalize(directions, dim=-1)
    if isinstance(octree, Strivec):
        return evaluate_spherical_harmonics(degree, features.mT, directions[:, None])
    return (0.5 + evaluate_spherical_harmonics(degree, features.mT, directions)).clamp(0, 1)


def harmonics(octree: VoxelOctree | Strivec) -> tuple[Tensor, int]:
    """Coefficients, (N, K, 3) or those of a Strivec's used components (N, R, K, 3), and their degree."""
    parts = [part for part in (octree.features_dc, octree.features_rest) if part is not None]
    features = torch.cat(parts, dim=-2)
    if isinstance(octree, Strivec):
        features = features[:, : octree.components]
    return features, math.isqrt(features.shape[-2]) - 1


@torch.no_grad()
def finite_leaves(octree: VoxelOctree | Strivec) -> Tensor:
    """(N,) bool, which leaves consist of finite numbers only."""
    parts = [octree.nodes.position, octree.density, octree.features_dc, octree.features_rest]
    parts.append(octree.leaf_colours)
    if isinstance(octree, Strivec):
        parts.append(octree.trivec)
    largest = [part.flatten(1).abs().amax(dim=1) for part in parts if part is not None]
    return torch.stack(largest).isfinite().all(dim=0)


def select_leaves(octree: VoxelOctree | Strivec, kept: Tensor) -> VoxelOctree | Strivec:
    """The leaves of a mask (N,) or of indices."""
    nodes = OctreeNodes(octree.nodes.position[kept], octree.nodes.depth[kept], octree.nodes.aabb)
    names = ["features_dc", "features_rest", "leaf_colours"]
    names += ["trivec", "density"] if isinstance(octree, Strivec) else ["hidden_density"]
    values = {name: getattr(octree, name) for name in names}
    return replace(
        octree, nodes=nodes, **{name: value[kept] for name, value in values.items() if value is not None}
    )


@torch.no_grad()
def pixel_boxes(nodes: OctreeNodes, cameras: Cameras) -> tuple[Tensor, Tensor, Tensor]:
    """Which leaves (V, N) may be in a picture, and the first and last pixel (V, N, 2) of each."""
    signs = torch.tensor([-0.5, 0.5], device=nodes.position.device, dtype=nodes.position.dtype)
    signs = torch.cartesian_prod(signs, signs, signs)
    corners = nodes.xyz[:, None] + signs * nodes.size[:, None]  # (N, 8, 3)
    screen = to_pixels(
        to_camera(corners.flatten(0, 1), cameras.extrinsics), cameras.intrinsics, cameras.shape
    ).unflatten(1, (-1, 8))
    nearest, farthest = screen[..., 2].aminmax(dim=2)
    first, last = covered_pixels(screen[..., :2].amin(2), screen[..., :2].amax(2), cameras.shape)
    # a leaf that reaches behind the eye may be anywhere
    whole = (nearest <= 0)[..., None]
    first = torch.where(whole, 0, first)
    ends = [torch.where(whole[..., 0], end - 1, last[..., k]) for k, end in enumerate(cameras.shape[::-1])]
    last = torch.stack(ends, dim=-1)
    seen = (farthest > cameras.near) & (nearest < cameras.far) & (last >= first).all(-1)
    return seen, first, last


@torch.no_grad()
def octant_order(nodes: OctreeNodes, eyes: Tensor) -> Tensor:
    """Leaves (V, N) from front to back as seen from eyes (V, 3), exact for leaves of any sizes.

    At each halving of the box a ray from the eye meets, along each axis, the half on the eye's side first.
    A position on a middle belongs to the upper half, so that corners of cells stand for the cells.
    """
    cells = 1 << MAX_DEPTH
    cell = (nodes.position * cells).floor().clamp(0, cells - 1).long()  # (N, 3)
    eye = (eyes - nodes.aabb[:3]) / nodes.aabb[3:] * cells
    levels = torch.arange(MAX_DEPTH - 1, -1, -1, device=cell.device)  # of halvings, the coarsest first
    bit = cell[..., None] >> levels  # (N, 3, levels)
    middle = (bit | 1) << levels
    far_side = (bit & 1).bool() != (eye[:, None, :, None] >= middle)
    places = 3 * levels + torch.arange(3, device=cell.device)[:, None]
    return (far_side.long() << places).sum((2, 3)).argsort(dim=1)
