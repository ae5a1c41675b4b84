"""Octrees by diffoctreerast, the rasteriser that TRELLIS was trained with, on an NVIDIA GPU.

Its licence allows research and evaluation only, so it is an extra that is chosen by name. It draws one
picture a call. What it would draw otherwise than the other backends is refused:

- leaves near the eye, which it leaves out or projects to wrong places;
- a principal point off the middle, and depths that cut leaves, which it does not know;
- radiance fields in pictures whose height or width is no multiple of 8, where it reads beyond its inputs;
- gradients through leaves of different sizes, or by final colours of a radiance field, which it gets wrong.

Radiance fields are sampled on its comb; without offsets the comb is shifted by half a step everywhere. Depths
are those of its samples, of voxels those of their centres. What it gets wrong in the gradient by a field's
depth is put right here.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
from diffoctreerast.octree_trivec_rasterizer import rasterize_octree_trivec
from diffoctreerast.octree_voxel_rasterizer import rasterize_octree_voxel
from torch import Tensor

from trellis_modules.backends import BackendUnavailable
from trellis_modules.renderers.backends import BlendedViews, RaySamples
from trellis_modules.renderers.backends.octree_views import (
    finite_leaves,
    harmonics,
    leaf_colours,
    pixel_boxes,
    select_leaves,
)
from trellis_modules.renderers.cameras import Cameras, camera_rays, eye_positions, to_camera
from trellis_modules.renderers.projection import intrinsics_to_projection
from trellis_modules.representations.octree import OctreeNodes, VoxelOctree
from trellis_modules.representations.strivec import Strivec

_NEAREST_CENTRE = 0.2  # camera depth of a leaf's centre up to which it is left out
_FARTHEST = 100.0  # stands for infinity in a matrix of which the depth is not used
_TILE = 8  # pixels
_SHARED_NUMBERS = 6116  # of a radiance field's leaf that fit 48 KiB of shared memory beside the rest
_MIDDLE_TOLERANCE = 1e-5  # of a picture's size


def run(octree: VoxelOctree | Strivec, cameras: Cameras, samples: RaySamples) -> BlendedViews:
    """Backend entry point, see ``renderers.backends``."""
    finite = finite_leaves(octree)
    if not finite.all():
        octree = select_leaves(octree, finite)
    seen = pixel_boxes(octree.nodes, cameras)[0]
    _refuse(octree, cameras, seen)
    if not len(cameras):
        return _nothing(octree, cameras)
    views = []
    with torch.cuda.device_of(octree.nodes.position):
        for number, (camera, shown) in enumerate(zip(cameras.split(1), seen.any(dim=1).tolist())):
            # where there is nothing to draw the package would leave its buffers unset
            views.append(_draw(octree, camera, samples.view(number)) if shown else _nothing(octree, camera))
    return BlendedViews(*(None if part[0] is None else torch.cat(part) for part in zip(*views)))


def _refuse(octree: VoxelOctree | Strivec, cameras: Cameras, seen: Tensor) -> None:
    """Raise BackendUnavailable for what would be drawn otherwise or read beyond memory."""
    reasons = _field_reasons(octree, cameras) if isinstance(octree, Strivec) else []
    centre = cameras.intrinsics[:, :2, 2]
    if len(centre) and float((centre - 0.5).abs().max()) > _MIDDLE_TOLERANCE:
        reasons.append(f"takes principal points in the middle only, got {centre[0].tolist()}")
    if octree.nodes.position.is_cuda and torch.cuda.current_stream() != torch.cuda.default_stream():
        reasons.append("runs on the default stream only, got another one")
    reasons += _depth_reasons(octree.nodes, cameras, seen)
    if reasons:
        raise BackendUnavailable(
            f"render_octree: backend 'diffoctreerast' {reasons[0]}; choose another backend"
        )


def _field_reasons(field: Strivec, cameras: Cameras) -> list[str]:
    """Why a radiance field cannot be drawn, whatever the cameras see."""
    reasons = []
    numbers = field.rank * (12 * field.samples_per_axis + 16)
    if numbers > _SHARED_NUMBERS:
        reasons.append(
            f"takes rank * (12 * dim + 16) <= {_SHARED_NUMBERS}, got rank {field.rank} and dim "
            f"{field.samples_per_axis}: {numbers}"
        )
    if cameras.height % _TILE or cameras.width % _TILE:
        reasons.append(
            f"draws radiance fields in multiples of {_TILE} pixels, got {cameras.height} x {cameras.width}"
        )
    trained = (field.trivec, field.density, field.features_dc, field.features_rest, field.leaf_colours)
    if torch.is_grad_enabled() and any(part is not None and part.requires_grad for part in trained):
        depth = field.nodes.depth
        if len(depth) and int(depth.min()) != int(depth.max()):
            reasons.append("differentiates radiance fields of one leaf size only, got several")
        if field.leaf_colours is not None:
            reasons.append("does not differentiate radiance fields with leaf_colours")
    return reasons


def _depth_reasons(nodes: OctreeNodes, cameras: Cameras, seen: Tensor) -> list[str]:
    """Why leaves that are seen (V, N) would be cut, or drawn wrongly near the eye."""
    half = (nodes.size * cameras.extrinsics[:, None, 2, :3].abs()).sum(-1) / 2  # (V, N)
    centre = to_camera(nodes.xyz, cameras.extrinsics)[..., 2]
    nearest, farthest = centre - half, centre + half
    wrong = seen & ((centre <= _NEAREST_CENTRE) | (nearest <= 0))
    cut = seen & ((nearest < cameras.near) | (farthest > cameras.far))
    reasons = []
    if wrong.any():
        reasons.append(
            f"does not draw leaves around the eye, got {int(wrong.sum())} whose centre lies within "
            f"{_NEAREST_CENTRE} or that reach behind it"
        )
    elif cut.any():
        reasons.append(
            f"does not cut leaves, got near {cameras.near:g} and far {cameras.far:g}, "
            f"which cut {int(cut.sum())}"
        )
    return reasons


def _draw(octree: VoxelOctree | Strivec, camera: Cameras, samples: RaySamples) -> BlendedViews:
    """The picture of one camera."""
    settings = _settings(camera)
    if isinstance(octree, VoxelOctree):
        return _draw_voxels(octree, settings)
    shifts = samples.offsets
    if shifts is None:
        shifts = torch.full((1, *camera.shape), 0.5, device=octree.nodes.position.device)
    return _draw_field(octree, settings, shifts[0], camera)


def _nothing(octree: VoxelOctree | Strivec, cameras: Cameras) -> BlendedViews:
    """Pictures without anything in them; their gradient by the octree is 0."""
    trained = sum(value[:0].sum() for value in vars(octree).values() if isinstance(value, Tensor))
    empty = octree.nodes.position.new_zeros((len(cameras), *cameras.shape)) + trained
    percent = None if isinstance(octree, VoxelOctree) else empty.detach()
    return BlendedViews(empty[..., None].expand(*empty.shape, 3), empty, empty, percent)


def _settings(camera: Cameras) -> SimpleNamespace:
    pose, lens = camera.extrinsics[0], camera.intrinsics[0]
    projection = intrinsics_to_projection(lens, camera.near, min(camera.far, _FARTHEST))
    return SimpleNamespace(
        image_height=camera.height,
        image_width=camera.width,
        tanfovx=0.5 / float(lens[0, 0]),
        tanfovy=0.5 / float(lens[1, 1]),
        bg=pose.new_zeros(3),  # colours come out weighted by alpha
        scale_modifier=1.0,
        viewmatrix=pose.T.contiguous(),
        projmatrix=(projection @ pose).T.contiguous(),
        campos=eye_positions(pose),
        sh_degree=0,
        debug=False,
        with_distloss=False,
        jitter=False,
        density_shift=0.0,
        used_rank=0,
    )


def _draw_voxels(octree: VoxelOctree, settings: SimpleNamespace) -> BlendedViews:
    nodes = octree.nodes
    # colours are evaluated here, because the package's gradient passes through their clamp
    colour, depth, alpha, _ = rasterize_octree_voxel(
        nodes.position.contiguous(),
        nodes.position.new_empty(0),
        leaf_colours(octree, settings.campos).contiguous(),
        octree.density.contiguous(),
        nodes.depth.contiguous(),
        nodes.aabb.contiguous(),
        settings,
    )
    return BlendedViews(colour.permute(1, 2, 0)[None], depth[None], alpha[None])


def _draw_field(field: Strivec, settings: SimpleNamespace, shifts: Tensor, camera: Cameras) -> BlendedViews:
    """Draw one picture with the comb shifted by (H, W)."""
    nodes, absent = field.nodes, field.nodes.position.new_empty(0)
    settings.density_shift, settings.used_rank = field.density_shift, field.components
    if field.leaf_colours is None:
        coefficients, settings.sh_degree = harmonics(field)
        unused = field.rank - field.components
        shs = torch.nn.functional.pad(coefficients, (0, 0, 0, 0, 0, unused)).contiguous()
        plain = absent
    else:
        # without coefficients its kernel ended with an illegal access to memory
        shs, plain = field.density.new_zeros((len(nodes), field.rank, 1, 3)), field.leaf_colours.contiguous()
    middle = torch.full_like(shifts, 0.5)  # of the pixel
    colour, depth, alpha, percent_depth = rasterize_octree_trivec(
        nodes.position.contiguous(),
        field.trivec.contiguous(),
        field.density.contiguous(),
        shs,
        absent,
        nodes.depth.contiguous(),
        nodes.aabb.contiguous(),
        torch.stack([middle, middle, shifts], dim=-1).contiguous(),
        plain,
        settings,
    )
    depth = _with_true_gradient(depth, alpha, camera)
    return BlendedViews(colour.permute(1, 2, 0)[None], depth[None], alpha[None], percent_depth.detach()[None])


def _with_true_gradient(depth: Tensor, alpha: Tensor, camera: Cameras) -> Tensor:
    """The depth (H, W) of a radiance field, with the gradient that it has in truth.

    The package sums up distances s along the ray, D = sum of w * s, and returns D * cos, cos from distance to
    camera depth. Its backward pass returns the gradient of D, without cos, and to know what lies behind a
    sample it starts from D * cos instead of D. That is too little by D * (1 - cos), which adds as much to the
    gradient by the optical thickness of each sample.
    """
    cosine = 1 / camera_rays(camera.intrinsics[0], camera.shape).norm(dim=-1)
    thickness = -torch.log1p(-alpha)  # a ray ends before alpha is 1
    excess = (depth / cosine - depth).detach()
    followed = cosine * (depth - excess * thickness)
    return depth.detach() + (followed - followed.detach())
