"""Smooth silhouettes of rasterised meshes, through which pictures have gradients to where the edges lie."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from trellis_modules.renderers.cameras import Cameras, to_camera

_SIDES = ((0, 1), (1, 2), (2, 0))  # corners of a face's edges


@dataclass(frozen=True)
class _Edges:
    """K edges that views see as silhouettes; places are x, y in pixels.

    Attributes:
        view: (K,).
        start, end: (K, 2).
        start_depth, end_depth: (K,).
    """

    view: Tensor
    start: Tensor
    end: Tensor
    start_depth: Tensor
    end_depth: Tensor

    def of(self, chosen: Tensor) -> _Edges:
        """Some of the edges."""
        return _Edges(*(getattr(self, part.name)[chosen] for part in fields(self)))


def blend_silhouettes(
    pictures: Tensor, face: Tensor, depth: Tensor, vertices: Tensor, faces: Tensor, cameras: Cameras
) -> Tensor:
    """Mix neighbouring pixels by how far the silhouette between them is from their middle.

    Where a silhouette lies beyond the middle between the centres of two pixels, as seen from the one in
    front, the farther pixel takes that share of the nearer one's values, else the other way round. The values
    of a picture so change continuously as edges move, and have gradients to the vertices; edges are blurred
    by a pixel. Silhouettes are edges between a face that is turned to the eye and one that is not, or with
    one face alone; faces may be smaller than pixels.

    Args:
        pictures: (N, H, W, C) values at pixel centres.
        face: (N, H, W) int64 face at each, -1 for none.
        depth: (N, H, W) camera depth at each; of no account where there is no face.
        vertices: (V, 3) float, world.
        faces: (F, 3) int64.
        cameras: N cameras of H x W pixels.

    Returns:
        (N, H, W, C).

    Source: after Laine et al., Modular Primitives for High-Performance Differentiable Rendering,
    arXiv:2011.03277, section 3.4, where only edges of the face at the nearer pixel's centre count.
    """
    edges = _silhouettes(vertices, faces, cameras)
    far = torch.where(face >= 0, depth.detach(), torch.inf)
    blended = pictures
    steep = (edges.end - edges.start).abs().diff(dim=1)[:, 0] >= 0
    for axis, chosen in ((0, steep), (1, ~steep)):  # along x across steep edges, along y across flat ones:
        blended = _mixed(blended, pictures, face, far, edges.of(chosen), axis)  # each counts once
    return blended


def _silhouettes(vertices: Tensor, faces: Tensor, cameras: Cameras) -> _Edges:
    camera = to_camera(vertices, cameras.extrinsics)  # (N, V, 3)
    depth = camera[..., 2]
    safe = torch.where(depth > 0, depth, torch.ones_like(depth))
    image = torch.einsum("nij,nvj->nvi", cameras.intrinsics, camera)[..., :2] / safe[..., None]
    image = image * image.new_tensor([cameras.width, cameras.height])  # (N, V, 2)
    ends, sides = _edges(faces, len(vertices))
    with torch.no_grad():
        a, b, c = (camera[:, faces[:, k]] for k in range(3))
        turned = (torch.linalg.cross(b - a, c - a) * a).sum(-1) < 0  # (N, F) towards the eye
        folded = (turned[:, sides[:, 0]] != turned[:, sides[:, 1]]) | (sides[:, 0] == sides[:, 1])
        before = (depth[:, ends] > 0).all(-1)
        view, edge = (folded & before).nonzero(as_tuple=True)
    start, end = ends[edge].unbind(1)
    return _Edges(view, image[view, start], image[view, end], depth[view, start], depth[view, end])


def _edges(faces: Tensor, num_vertices: int) -> tuple[Tensor, Tensor]:
    """Vertices (E, 2) of the edges, and the faces (E, 2) at them; twice the same where there are not two."""
    pairs = torch.cat([faces[:, side] for side in _SIDES]).sort(dim=1).values
    owner = torch.arange(len(faces), device=faces.device).repeat(len(_SIDES))
    keys, place, count = torch.unique(
        pairs[:, 0] * num_vertices + pairs[:, 1], return_inverse=True, return_counts=True
    )
    lowest = torch.full_like(keys, len(faces)).scatter_reduce(0, place, owner, "amin")
    highest = torch.full_like(keys, -1).scatter_reduce(0, place, owner, "amax")
    sides = torch.stack([lowest, torch.where(count == 2, highest, lowest)], dim=1)
    ends = torch.stack([keys // max(num_vertices, 1), keys % max(num_vertices, 1)], dim=1)
    return ends, sides


def _mixed(blended: Tensor, pictures: Tensor, face: Tensor, far: Tensor, edges: _Edges, axis: int) -> Tensor:
    """Blend every pixel with its next one along an axis, 0 for x and 1 for y."""
    row, line, place, depth = _crossings(edges, axis)
    first = (place.detach() - 0.5).floor().long()
    lines, pixels = (face.shape[1], face.shape[2]) if axis == 0 else (face.shape[2], face.shape[1])
    inside = (line >= 0) & (line < lines) & (first >= 0) & (first + 1 < pixels)
    view, line, place, depth, first = (x[inside] for x in (edges.view[row], line, place, depth, first))

    def pixel(number: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (view, line, number) if axis == 0 else (view, number, line)

    here, there = far[pixel(first)], far[pixel(first + 1)]
    swapped = there < here
    share = torch.where(swapped, first + 1.5 - place, place - first - 0.5)  # from the centre of the front one
    matters = (face[pixel(first)] != face[pixel(first + 1)]) & (depth < torch.maximum(here, there))
    key = (view * lines + line) * pixels + first
    chosen = _outermost(key, share.detach(), matters)
    view, line, first, swapped = (x[chosen] for x in (view, line, first, swapped))
    front, back = first + swapped.long(), first + (~swapped).long()
    cover = (share[chosen] - 0.5)[:, None]
    change = pictures[pixel(front)] - pictures[pixel(back)]
    target = torch.where(cover[:, 0] > 0, back, front)
    return blended.index_put(pixel(target), cover * change, accumulate=True)


def _crossings(edges: _Edges, axis: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where edges cross the lines through pixel centres along an axis.

    Returns:
        For each crossing the row of its edge, the number of the line, the place along the axis in pixels, and
        the camera depth without gradient.
    """
    along, across = axis, 1 - axis
    low = torch.minimum(edges.start[:, across], edges.end[:, across]).detach()
    high = torch.maximum(edges.start[:, across], edges.end[:, across]).detach()
    first = (low - 0.5).ceil().long()
    count = ((high - 0.5).ceil().long() - first).clamp(min=0)
    row = torch.repeat_interleave(torch.arange(len(count), device=count.device), count)
    begin = count.cumsum(0) - count
    line = first[row] + torch.arange(len(row), device=row.device) - begin[row]
    start, end = edges.start[row], edges.end[row]
    part = (line + 0.5 - start[:, across]) / (end[:, across] - start[:, across])
    place = start[:, along] + part * (end[:, along] - start[:, along])
    nearness = torch.lerp(1 / edges.start_depth[row], 1 / edges.end_depth[row], part).detach()
    return row, line, place, 1 / nearness


def _outermost(key: Tensor, share: Tensor, matters: Tensor) -> Tensor:
    """Numbers of the crossings with the greatest share among those of the same key that matter."""
    candidates = matters.nonzero()[:, 0]
    order = candidates[share[candidates].argsort(stable=True)]
    keys, place = torch.unique(key[order], return_inverse=True)
    last = torch.full_like(keys, -1).scatter_reduce(
        0, place, torch.arange(len(order), device=key.device), "amax"
    )
    return order[last]
