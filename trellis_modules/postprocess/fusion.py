"""The colour of surface points as a weighted mean over the views that see them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from trellis_modules.postprocess.observations import Observations
from trellis_modules.postprocess.texels import SurfaceTexels
from trellis_modules.postprocess.visibility import distance_to_planes, face_planes
from trellis_modules.renderers import visible_faces
from trellis_modules.renderers.cameras import eye_positions, to_camera, to_pixels

NEAR, FAR = 0.1, 10.0

MIN_COSINE = 0.2
"""Views further from the normal than this are left out: a pixel there covers five texels."""

MIN_ALPHA = 0.5
"""Pixels less covered than this show mostly background."""

_MAX_PIXELS = {"cuda": 1 << 24, "cpu": 1 << 23}  # of the views that are drawn at once
_MAX_DISTANCE_PIXELS = 2.0  # to the plane of a face around: what a sharp edge between pixels makes


def fuse_observations(
    texels: SurfaceTexels, vertices: Tensor, faces: Tensor, observations: Observations
) -> tuple[Tensor, Tensor]:
    """Mean observed colour of texels, weighted by the squared cosine between normal and viewing direction.

    A texel counts as seen where all four pixels around its projection show the surface that it lies on, so
    pixels at silhouettes, which mix two surfaces, are left out. Colours are divided by alpha, so the
    background does not darken pixels that are half covered.

    Args:
        texels: T points of the mesh.
        vertices, faces: the mesh (V, 3), (F, 3), which hides its own back.
        observations: on the same device.

    Returns:
        colour (T, 3) and weight (T,); both 0 where no view sees the point.
    """
    planes = face_planes(vertices, faces)
    total = texels.position.new_zeros(len(texels), 4)
    for view, picture in enumerate(_face_pictures(vertices, faces, observations)):
        seen, colour, weight = _fuse_view(texels, picture, planes, observations, view)
        total[seen] += torch.cat([colour * weight[:, None], weight[:, None]], dim=1)
    weight = total[:, 3]
    return total[:, :3] / weight.clamp_min(torch.finfo(weight.dtype).tiny)[:, None], weight


def _face_pictures(vertices: Tensor, faces: Tensor, observations: Observations) -> Iterator[Tensor]:
    """The face (S, S) at each pixel of one view after the other, -1 where nothing is hit."""
    size = observations.size
    views_at_once = max(_MAX_PIXELS.get(vertices.device.type, _MAX_PIXELS["cpu"]) // size**2, 1)
    parts = (values.split(views_at_once) for values in (observations.extrinsics, observations.intrinsics))
    for extrinsics, intrinsics in zip(*parts):
        yield from visible_faces(vertices, faces, extrinsics, intrinsics, size, near=NEAR, far=FAR)


def _fuse_view(
    texels: SurfaceTexels, picture: Tensor, planes: Tensor, observations: Observations, view: int
) -> tuple[Tensor, Tensor, Tensor]:
    """What one view adds.

    Args:
        texels: of the surface.
        picture: (S, S) faces that the view shows.
        planes: (F, 4) of the faces.
        observations, view: all views, and which one.

    Returns:
        The texels (P,) that are seen, their colours (P, 3) and weights (P,).
    """
    extrinsics, intrinsics = observations.extrinsics[view], observations.intrinsics[view]
    size = observations.size
    in_view = torch.zeros(len(planes) + 1, dtype=torch.bool, device=picture.device)
    in_view[picture] = True  # -1, nothing hit, marks the last entry
    chosen = in_view[texels.face].nonzero()[:, 0]
    position, normal = texels.position[chosen], texels.normal[chosen]
    cosine = (normal * torch.nn.functional.normalize(eye_positions(extrinsics) - position, dim=1)).sum(dim=1)
    pixels = to_pixels(to_camera(position, extrinsics), intrinsics, size)
    tolerance = _MAX_DISTANCE_PIXELS * pixels[:, 2] / (intrinsics[0, 0] * size * cosine.clamp_min(MIN_COSINE))
    seen = (cosine > MIN_COSINE) & _around_is_surface(pixels[:, :2], position, picture, planes, tolerance)
    colour, alpha = _sample(observations, view, pixels[seen, :2])
    weight = cosine[seen].square() * (alpha > MIN_ALPHA)
    return chosen[seen], colour / alpha.clamp_min(MIN_ALPHA)[:, None], weight


def _around_is_surface(
    xy: Tensor, position: Tensor, picture: Tensor, planes: Tensor, tolerance: Tensor
) -> Tensor:
    """(P,) bool: whether the faces at the four pixels around ``xy`` (P, 2) pass through points (P, 3).

    Args:
        xy, position: where points appear in the picture, and where they are.
        picture: (S, S) faces, -1 where nothing is hit.
        planes: (F, 4) unit normal and offset of each face.
        tolerance: (P,) distance from the plane.
    """
    size = len(picture)
    column, row = (xy - 0.5).floor().long().unbind(1)
    inside = (column >= 0) & (column < size - 1) & (row >= 0) & (row < size - 1)
    first = torch.where(inside, row * size + column, 0)
    for step in (0, 1, size, size + 1):
        face = picture.flatten()[first + step]
        inside &= (face >= 0) & (distance_to_planes(planes[face], position) <= tolerance)
    return inside


def _sample(observations: Observations, view: int, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Colour (P, 3) times alpha, and alpha (P,), between the pixels of one view at ``xy`` (P, 2)."""
    rgba = torch.cat([observations.colour[view], observations.alpha[view, ..., None]], dim=-1)
    grid = (2 * xy / observations.size - 1)[None, None]
    values = torch.nn.functional.grid_sample(rgba.permute(2, 0, 1)[None], grid, align_corners=False)
    return values[0, :3, 0].mT, values[0, 3, 0]
