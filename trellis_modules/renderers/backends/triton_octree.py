"""Volume rendering of octree leaves on a GPU by Triton: the arithmetic of ``torch_octree``, in registers.

Gradients are added up by atomic operations, so that they differ by rounding from run to run; pictures do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from trellis_modules.backends import BackendUnavailable
from trellis_modules.renderers.backends import BlendedViews, RaySamples
from trellis_modules.renderers.backends.octree_views import (
    COMB_STEPS,
    LEAST_LIGHT,
    MAX_ALPHA,
    SOFTPLUS_LINEAR,
    TrivecParameters,
    finite_leaves,
    leaf_colours,
)
from trellis_modules.renderers.backends.triton_lists import LeafLists, leaf_lists
from trellis_modules.renderers.backends.triton_rays import CHANNELS, EDGE
from trellis_modules.renderers.backends.triton_trivecs import differentiate_trivecs, draw_trivecs
from trellis_modules.renderers.backends.triton_voxels import differentiate_voxels, draw_voxels
from trellis_modules.renderers.cameras import Cameras, eye_positions
from trellis_modules.representations.octree import MAX_DEPTH, VoxelOctree
from trellis_modules.representations.strivec import Strivec

# Pixels and warps of a program. Those for local tensors are the fastest of 16, 32 and 64 pixels with 1, 2 and
# 4 warps on an H200; with gradients, 64 pixels with 1 warp take eight times as long as 16.
_VOXEL_PIXELS, _VOXEL_WARPS = 64, 2
_DRAW_PIXELS, _DRAW_WARPS = 32, 4
_DIFFERENTIATE_PIXELS, _DIFFERENTIATE_WARPS = 16, 1
_SMALLEST_DOT = 16  # rows and columns that Triton's matrix product takes at least
_LARGEST_SIZE = 64  # components, and values of a vector; the registers of a program do not hold many more
_MAX_LEAVES = 1 << 20  # of all the views that are drawn at once


@dataclass(frozen=True)
class _Scene:
    """What kernels need beside the parameters that are differentiated by.

    Attributes:
        lists: the leaves of every tile.
        cameras: (V, CAMERA), see ``triton_rays``.
        boxes: (N, 6), lowest corners and edges of the leaves in the world.
        shape: V, height, width.
        depths: near and far.
    """

    lists: LeafLists
    cameras: Tensor
    boxes: Tensor
    shape: tuple[int, int, int]
    depths: tuple[float, float]

    def programs(self, pixels: int) -> tuple[int]:
        """Launch grid of programs of so many pixels."""
        return (len(self.lists.tiles) * (EDGE * EDGE // pixels),)

    def arguments(self, *parameters: Tensor) -> tuple[Tensor, ...]:
        """The leading arguments of a kernel."""
        return (*self.lists, self.cameras, self.boxes, *parameters)

    def new_pictures(self) -> Tensor:
        """Pictures without anything in them."""
        return self.boxes.new_zeros((*self.shape, CHANNELS))


class _DrawVoxels(torch.autograd.Function):
    """Pictures (V, H, W, CHANNELS) of a table (1 or V, N, 4) of densities and colours."""

    @staticmethod
    def forward(ctx: Any, scene: _Scene, table: Tensor) -> Tensor:
        pictures = scene.new_pictures()
        if len(scene.lists.items):
            draw_voxels[scene.programs(_VOXEL_PIXELS)](
                *scene.arguments(table, pictures),
                *_scalars(scene, table),
                PIXELS=_VOXEL_PIXELS,
                num_warps=_VOXEL_WARPS,
            )
        ctx.scene = scene
        ctx.save_for_backward(table, pictures)
        return pictures

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        table, pictures = ctx.saved_tensors
        scene, by_table = ctx.scene, torch.zeros_like(table)
        if len(scene.lists.items):
            differentiate_voxels[scene.programs(_VOXEL_PIXELS)](
                *scene.arguments(table, pictures, gradient.contiguous(), by_table),
                *_scalars(scene, table),
                PIXELS=_VOXEL_PIXELS,
                num_warps=_VOXEL_WARPS,
            )
        return None, by_table


@dataclass(frozen=True)
class _Sampling:
    """How a field is evaluated.

    Attributes:
        offsets: (V, H, W) of the comb; a single number without comb.
        comb: whether there is one.
        count: places on a ray in a leaf without comb.
        plain: whether the mix holds final colours.
        shift, ramp: of the density.
    """

    offsets: Tensor
    comb: bool
    count: int
    plain: bool
    shift: float
    ramp: float

    def numbers(self, dim: int) -> tuple[int | float, ...]:
        """Arguments of a kernel."""
        return self.count, COMB_STEPS * dim, self.shift, self.ramp, SOFTPLUS_LINEAR


class _DrawTrivecs(torch.autograd.Function):
    """Pictures (V, H, W, CHANNELS) of vectors (N, 3, D, R) and mixes (1 or V, N, 4, R)."""

    @staticmethod
    def forward(ctx: Any, scene: _Scene, sampling: _Sampling, vectors: Tensor, mix: Tensor) -> Tensor:
        pictures = scene.new_pictures()
        ctx.constants = _trivec_constants(sampling, vectors)
        if len(scene.lists.items):
            draw_trivecs[scene.programs(_DRAW_PIXELS)](
                *scene.arguments(vectors, mix, sampling.offsets, pictures),
                *_trivec_scalars(scene, sampling, vectors, mix),
                **ctx.constants,
                PIXELS=_DRAW_PIXELS,
                num_warps=_DRAW_WARPS,
            )
        ctx.scene, ctx.sampling = scene, sampling
        ctx.save_for_backward(vectors, mix, pictures)
        return pictures

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor, Tensor]:
        vectors, mix, pictures = ctx.saved_tensors
        scene, sampling = ctx.scene, ctx.sampling
        by_vectors, by_mix = torch.zeros_like(vectors), torch.zeros_like(mix)
        if len(scene.lists.items):
            differentiate_trivecs[scene.programs(_DIFFERENTIATE_PIXELS)](
                *scene.arguments(vectors, mix, sampling.offsets, pictures),
                gradient.contiguous(),
                by_vectors,
                by_mix,
                *_trivec_scalars(scene, sampling, vectors, mix),
                **ctx.constants,
                NODES=max(_SMALLEST_DOT, triton.next_power_of_2(vectors.shape[2])),
                ROWS=_SMALLEST_DOT,
                PIXELS=_DIFFERENTIATE_PIXELS,
                num_warps=_DIFFERENTIATE_WARPS,
            )
        return None, None, by_vectors, by_mix


def _scalars(scene: _Scene, table: Tensor) -> tuple[int | float, ...]:
    """Stride of a view in a table (1 or V, N, ...), size of a picture and depths."""
    stride = 0 if len(table) == 1 else table[0].numel()
    return stride, *scene.shape[1:], *scene.depths, MAX_ALPHA, LEAST_LIGHT


def _trivec_scalars(
    scene: _Scene, sampling: _Sampling, vectors: Tensor, mix: Tensor
) -> tuple[int | float, ...]:
    *first, max_alpha, least_light = _scalars(scene, mix)
    return *first, *sampling.numbers(vectors.shape[2]), max_alpha, least_light


def _trivec_constants(sampling: _Sampling, vectors: Tensor) -> dict[str, int | bool]:
    dim, rank = vectors.shape[2:]
    return {
        "COMB": sampling.comb,
        "PLAIN": sampling.plain,
        "RANK": rank,
        "RANKS": max(_SMALLEST_DOT, triton.next_power_of_2(rank)),
        "DIM": dim,
    }


def run(octree: VoxelOctree | Strivec, cameras: Cameras, samples: RaySamples) -> BlendedViews:
    """Backend entry point, see ``renderers.backends``.

    Raises:
        BackendUnavailable: a radiance field has more components or longer vectors than the kernels take.
    """
    if isinstance(octree, Strivec) and max(octree.components, octree.samples_per_axis) > _LARGEST_SIZE:
        raise BackendUnavailable(
            f"render_octree: backend 'triton' takes components and values of a vector of at most "
            f"{_LARGEST_SIZE} each, got rank {octree.components} and dim {octree.samples_per_axis}; "
            "choose torch"
        )
    finite = finite_leaves(octree)
    at_once = max(1, _MAX_LEAVES // max(len(octree.nodes), 1))
    parts = []
    for number, part in enumerate(cameras.split(at_once)):
        offsets = samples.offsets
        if offsets is not None:
            offsets = offsets[number * at_once : number * at_once + len(part)].contiguous()
        parts.append(_run_views(octree, finite, part, samples._replace(offsets=offsets)))
    pictures = torch.cat(parts)
    return BlendedViews(pictures[..., :3], *pictures[..., 3:].unbind(-1))


def _run_views(
    octree: VoxelOctree | Strivec, finite: Tensor, cameras: Cameras, samples: RaySamples
) -> Tensor:
    """Pictures (V, H, W, CHANNELS)."""
    device = octree.nodes.position.device
    with torch.cuda.device(device if device.type == "cuda" else -1):
        scene = _scene(octree, finite, cameras)
        if isinstance(octree, VoxelOctree):
            colours = _view_colours(octree, cameras)
            density = octree.density.expand(len(colours), -1, 1)
            return _DrawVoxels.apply(scene, torch.cat([density, colours], dim=-1).contiguous())
        trivec = TrivecParameters.of(octree)
        comb, plain = samples.offsets is not None, octree.leaf_colours is not None
        offsets = samples.offsets if comb else trivec.weights.new_zeros(1)
        sampling = _Sampling(offsets, comb, samples.count, plain, trivec.shift, trivec.ramp)
        colours = _view_colours(octree, cameras)
        if plain:  # the kernel adds up what a row holds
            colours = torch.nn.functional.pad(colours[..., None], (0, octree.components - 1))
        else:
            colours = colours.mT
        weights = trivec.weights[:, None].expand(len(colours), -1, -1, -1)
        mix = torch.cat([weights, colours], dim=-2).contiguous()
        return _DrawTrivecs.apply(scene, sampling, trivec.vectors.contiguous(), mix)


def _view_colours(octree: VoxelOctree | Strivec, cameras: Cameras) -> Tensor:
    """Colours of the leaves (V, N, ...) for each view, or (1, N, ...) if they are the same from all sides."""
    eyes = eye_positions(cameras.extrinsics)
    if octree.features_rest is None:
        eyes = eyes[:1]
    if not len(eyes):
        eyes = eyes.new_zeros((1, 3))
    return torch.stack([leaf_colours(octree, eye) for eye in eyes])


@torch.no_grad()
def _scene(octree: VoxelOctree | Strivec, finite: Tensor, cameras: Cameras) -> _Scene:
    """Sort the leaves of every tile and gather what the kernels read."""
    nodes, eyes, lenses = octree.nodes, eye_positions(cameras.extrinsics), cameras.intrinsics
    cells = (eyes - nodes.aabb[:3]) / nodes.aabb[3:] * (1 << MAX_DEPTH)
    focal, centre = lenses.diagonal(dim1=1, dim2=2)[:, :2], lenses[:, :2, 2]
    rows = torch.cat([cameras.extrinsics[:, :3, :3].flatten(1), eyes, focal, centre, cells], dim=1)
    size = nodes.size
    boxes = torch.cat([nodes.xyz - size / 2, size], dim=1)
    shape, depths = (len(cameras), *cameras.shape), (cameras.near, cameras.far)
    lists = leaf_lists(boxes, nodes.position.contiguous(), finite, rows, shape, depths)
    return _Scene(lists, rows, boxes, shape, depths)
