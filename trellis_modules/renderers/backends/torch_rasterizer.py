"""Z-buffer rasterisation of triangle soups in plain PyTorch, on any device.

Every triangle is expanded to the pixels of its bounding box; each pixel keeps the nearest triangle through
one 64-bit ``amin`` scatter whose high half is the depth and whose low half is the face number. The result
does not depend on the order of execution, so equal inputs give equal pictures on every run. On CUDA devices,
where PyTorch brings Triton, one kernel does the same without writing the fragments out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trellis_modules import ragged
from trellis_modules.backends import Backend
from trellis_modules.renderers.cameras import Cameras, to_camera, to_pixels

_TRITON = Backend("triton", "trellis_modules.renderers.backends.triton_fragments", "triton", ("cuda",))
_EMPTY = torch.iinfo(torch.int64).max
# Bounds the memory: about 60 bytes a fragment are alive at once.
_MAX_FRAGMENTS = {"cuda": 1 << 23, "cpu": 1 << 16}
_MAX_TRIANGLES = {"cuda": 1 << 21, "cpu": 1 << 19}  # of all the views that are drawn at once


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
    draw = _fragment_kernel(screen.device.type)
    draw(buffer, planes, first, extent, images, kept, (height, width), perspective)

    hit = buffer != _EMPTY
    face = torch.where(hit, buffer & 0xFFFFFFFF, -1)
    bits = (buffer >> 32).to(torch.int32)
    depth = torch.where(hit, bits.view(torch.float32), torch.inf)
    return RasterOutput(face.view(num_images, height, width), depth.view(num_images, height, width))


@functools.cache
def _fragment_kernel(device_type: str) -> Callable[..., None]:
    """What draws the triangles into the buffer: Triton on CUDA devices where it is there, else PyTorch."""
    if _TRITON.accepts(device_type, torch.float32) and _TRITON.installed():
        return _TRITON.load("draw")
    return draw_fragments


def draw_fragments(
    buffer: Tensor,
    planes: Tensor,
    first: Tensor,
    extent: Tensor,
    images: Tensor,
    numbers: Tensor,
    size: tuple[int, int],
    perspective: bool,
) -> None:
    """The reference of `triton_fragments.draw`, on any device; the arguments are described there."""
    height, width = size
    counts = extent.prod(1)
    for part in ragged.runs(counts, _MAX_FRAGMENTS.get(buffer.device.type, 1 << 22)):
        owner, local = ragged.expand(counts[part])
        owner = owner + part.start
        box_width = extent[owner, 0]
        column, row = first[owner, 0] + local % box_width, first[owner, 1] + local // box_width
        plane = planes[owner]
        value = plane[..., 0] * (column + 0.5)[:, None] + plane[..., 1] * (row + 0.5)[:, None] + plane[..., 2]
        inside = ((value[:, 0] >= 0) & (value[:, 1] >= 0) & (value[:, 0] + value[:, 1] <= 1)).nonzero()[:, 0]
        depth = value[inside, 2].reciprocal() if perspective else value[inside, 2]
        owner = owner[inside]
        # positive floats sort like their bit patterns
        key = (depth.contiguous().view(torch.int32).long() << 32) | numbers[owner]
        target = (images[owner] * height + row[inside]) * width + column[inside]
        buffer.scatter_reduce_(0, target, key, reduce="amin")


def run(vertices: Tensor, faces: Tensor, cameras: Cameras) -> Tensor:
    """Backend entry point, see ``renderers.backends``."""
    limit = _MAX_TRIANGLES.get(vertices.device.type, _MAX_TRIANGLES["cpu"])
    return torch.cat([_run_views(vertices, faces, part) for part in cameras.split(limit // len(faces))])


@torch.no_grad()
def _run_views(vertices: Tensor, faces: Tensor, cameras: Cameras) -> Tensor:
    camera = to_camera(vertices, cameras.extrinsics)[:, faces].flatten(0, 1).float()  # (V * F, 3, 3)
    corners, owner = _clip_near(camera, cameras.near)
    view, face = owner // len(faces), owner % len(faces)
    screen = to_pixels(corners, cameras.intrinsics[view].float(), cameras.shape)
    raster = rasterize(screen, view, len(cameras), *cameras.shape)
    visible = (raster.face >= 0) & (raster.depth <= cameras.far)
    return torch.where(visible, face[raster.face.clamp(min=0)], -1) if len(face) else raster.face


def _clip_near(corners: Tensor, near: float) -> tuple[Tensor, Tensor]:
    """Cut away what is nearer than a plane.

    Args:
        corners: (F, 3, 3) in the camera frame.
        near: depth of the plane.

    Returns:
        corners (G, 3, 3) of the remaining triangles and the triangle (G,) each is a part of.
    """
    front = corners[..., 2] >= near
    count = front.sum(1)
    whole = (count == 3).nonzero()[:, 0]
    if not ((count == 1) | (count == 2)).any():
        return corners[whole], whole
    parts, owners = [corners[whole]], [whole]
    for number in (1, 2):
        cut = (count == number).nonzero()[:, 0]
        # the corner that is alone on its side of the plane comes first
        alone = (front[cut] == (number == 1)).int().argmax(1)
        turn = (alone[:, None] + torch.arange(3, device=cut.device)) % 3
        a, b, c = corners[cut].gather(1, turn[..., None].expand(-1, -1, 3)).unbind(1)
        ab, ac = (a + (near - a[:, 2:]) / (other[:, 2:] - a[:, 2:]) * (other - a) for other in (b, c))
        pieces = [(a, ab, ac)] if number == 1 else [(ab, b, c), (ab, c, ac)]
        parts += [torch.stack(piece, dim=1) for piece in pieces]
        owners += [cut] * len(pieces)
    return torch.cat(parts), torch.cat(owners)
