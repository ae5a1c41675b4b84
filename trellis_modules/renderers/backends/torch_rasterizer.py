"""Z-buffer rasterisation of triangle soups in plain PyTorch, on any device.

Every triangle is expanded to the pixels of its bounding box; each pixel keeps the nearest triangle through
one 64-bit ``amin`` scatter whose high half is the depth and whose low half is the face number. The result
does not depend on the order of execution, so equal inputs give equal pictures on every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_EMPTY = torch.iinfo(torch.int64).max
# Bounds the memory: about 60 bytes a fragment are alive at once.
_MAX_FRAGMENTS = {"cuda": 1 << 25, "cpu": 1 << 22}


@dataclass(frozen=True)
class RasterOutput:
    """What each pixel sees; row 0 is the top of the picture."""

    face: Tensor  # (B, H, W) int64, index into the given triangles, -1 where nothing is hit
    depth: Tensor  # (B, H, W) float32, interpolated third coordinate, +inf where nothing is hit


def _plane_coefficients(corners: Tensor, values: Tensor) -> Tensor:
    """Coefficients (a, b, c) of a*x + b*y + c, which is ``values`` (F, 3) at ``corners`` (F, 3, 2)."""
    (x0, y0), (x1, y1), (x2, y2) = (corners[:, k].unbind(-1) for k in range(3))
    v0, v1, v2 = values.unbind(-1)
    doubled_area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    a = ((v1 - v0) * (y2 - y0) - (v2 - v0) * (y1 - y0)) / doubled_area
    b = ((v2 - v0) * (x1 - x0) - (v1 - v0) * (x2 - x0)) / doubled_area
    return torch.stack([a, b, v0 - a * x0 - b * y0], dim=-1)


def _pixel_boxes(xy: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """First pixel (F, 2) and extent (F, 2), as (x, y) int64, of the pixel centres inside each box."""
    limit = torch.tensor([width - 1, height - 1], device=xy.device)
    first = torch.ceil(xy.amin(1) - 0.5).clamp_(min=0).long()
    last = torch.minimum(torch.floor(xy.amax(1) - 0.5).clamp(min=-1, max=2**30).long(), limit)
    return first, (last - first + 1).clamp_(min=0)


def _fragments(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For ``counts`` (F,) fragments a face: owning face (N,) and running number inside that face (N,)."""
    owner = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    starts = counts.cumsum(0) - counts
    return owner, torch.arange(len(owner), device=counts.device) - starts[owner]


def _chunks(counts: Tensor, limit: int) -> list[slice]:
    """Consecutive runs of faces with at most ``limit`` fragments each; a larger face is a run of its own."""
    total = counts.cumsum(0)
    if len(counts) == 0 or int(total[-1]) <= limit:
        return [slice(0, len(counts))]
    boundaries = torch.searchsorted(
        total, torch.arange(limit, int(total[-1]) + limit, limit, device=counts.device)
    )
    edges = [0, *sorted({int(b) + 1 for b in boundaries.tolist() if b + 1 < len(counts)}), len(counts)]
    return [slice(a, b) for a, b in zip(edges, edges[1:])]


def rasterize(
    screen: Tensor, image_index: Tensor, num_images: int, height: int, width: int, *, perspective: bool = True
) -> RasterOutput:
    """Find the nearest triangle at every pixel centre of a batch of pictures.

    Args:
        screen: (F, 3, 3) float32, per triangle corner (x, y, depth); x, y in pixels with y down and pixel
            centres at half integers, depth > 0 growing away from the eye. Triangles with a corner at depth
            <= 0 are left out (no clipping: keep the camera outside of the objects).
        image_index: (F,) int64, the picture each triangle is drawn into.
        num_images, height, width: size of the result.
        perspective: interpolate 1/depth linearly on the screen (pinhole); False for an orthographic view.

    Returns:
        RasterOutput with both sides of every triangle visible.

    Raises:
        ValueError: screen is not (F, 3, 3) or image_index does not match it.
    """
    if screen.ndim != 3 or screen.shape[1:] != (3, 3) or image_index.shape != screen.shape[:1]:
        raise ValueError(
            f"rasterize: need screen (F, 3, 3) and image_index (F,), got {tuple(screen.shape)} "
            f"and {tuple(image_index.shape)}"
        )
    xy, z = screen[..., :2], screen[..., 2]
    first, extent = _pixel_boxes(xy, height, width)
    doubled_area = torch.linalg.det(xy[:, 1:] - xy[:, :1])
    usable = (
        (z.amin(1) > 0) & (extent.amin(1) > 0) & (doubled_area.abs() > 1e-9) & torch.isfinite(doubled_area)
    )
    kept = usable.nonzero()[:, 0]
    xy, z, first, extent, images = xy[kept], z[kept], first[kept], extent[kept], image_index[kept]

    one_hot = torch.eye(3, device=screen.device, dtype=screen.dtype)
    planes = torch.stack(
        [
            _plane_coefficients(xy, one_hot[0].expand(len(xy), 3)),
            _plane_coefficients(xy, one_hot[1].expand(len(xy), 3)),
            _plane_coefficients(xy, 1.0 / z if perspective else z),
        ],
        dim=1,
    )  # (F, 3, 3): two barycentric coordinates and the depth function

    buffer = torch.full((num_images * height * width,), _EMPTY, dtype=torch.int64, device=screen.device)
    counts = extent.prod(1)
    for run in _chunks(counts, _MAX_FRAGMENTS.get(screen.device.type, 1 << 22)):
        owner, local = _fragments(counts[run])
        owner = owner + run.start
        box_width = extent[owner, 0]
        column, row = first[owner, 0] + local % box_width, first[owner, 1] + local // box_width
        plane = planes[owner]
        value = plane[..., 0] * (column + 0.5)[:, None] + plane[..., 1] * (row + 0.5)[:, None] + plane[..., 2]
        inside = ((value[:, 0] >= 0) & (value[:, 1] >= 0) & (value[:, 0] + value[:, 1] <= 1)).nonzero()[:, 0]
        depth = value[inside, 2].reciprocal() if perspective else value[inside, 2]
        owner = owner[inside]
        # positive floats sort like their bit patterns
        key = (depth.contiguous().view(torch.int32).long() << 32) | kept[owner]
        target = (images[owner] * height + row[inside]) * width + column[inside]
        buffer.scatter_reduce_(0, target, key, reduce="amin")

    hit = buffer != _EMPTY
    face = torch.where(hit, buffer & 0xFFFFFFFF, -1)
    bits = (buffer >> 32).to(torch.int32)
    depth = torch.where(hit, bits.view(torch.float32), torch.inf)
    return RasterOutput(face.view(num_images, height, width), depth.view(num_images, height, width))
