"""What cameras around a mesh see of it, whatever the size of its faces."""

from __future__ import annotations

import torch
from torch import Tensor

from trellis_modules.renderers import visible_faces
from trellis_modules.renderers.cameras import eye_positions, multiview_cameras, to_camera, to_pixels
from trellis_modules.representations.mesh.normals import face_normals

_NEAR, _FAR = 1.0, 3.0  # of cameras at distance 2 from the cube [-0.5, 0.5]^3
_VIEWS_AT_ONCE = 16
_MAX_DISTANCE_PIXELS = 1.5


def face_planes(vertices: Tensor, faces: Tensor) -> Tensor:
    """Planes (F, 4) of faces: unit normal, and the offset that makes n . x + offset = 0 on the face."""
    normals = face_normals(vertices[faces])
    return torch.cat([normals, -(normals * vertices[faces[:, 0]]).sum(dim=1, keepdim=True)], dim=1)


def distance_to_planes(planes: Tensor, points: Tensor) -> Tensor:
    """Distances (N,) of points (N, 3), each from its plane (N, 4)."""
    return ((planes[:, :3] * points).sum(dim=1) + planes[:, 3]).abs()


def face_visibility(vertices: Tensor, faces: Tensor, num_views: int, size: int) -> Tensor:
    """Share of evenly spread views in which each face is seen.

    A face is seen where it covers the centre of a pixel. A face that is too small for that is seen where the
    pixel at its middle shows a face of the same surface: one that turns the same side to the camera and whose
    plane passes the middle within one and a half pixels.

    Args:
        vertices: (V, 3) float, in [-0.5, 0.5]^3 or a little beyond.
        faces: (F, 3) int64.
        num_views: cameras at distance 2, field of view 40 degrees.
        size: pixels per edge of a view.

    Returns:
        (F,) float in [0, 1], on the device of the mesh.
    """
    planes, middles = face_planes(vertices, faces), vertices[faces].mean(dim=1)
    extrinsics, intrinsics = (values.to(vertices) for values in multiview_cameras(num_views))
    count = torch.zeros(len(faces), dtype=torch.int64, device=vertices.device)
    for cameras in extrinsics.split(_VIEWS_AT_ONCE):
        pictures = visible_faces(vertices, faces, cameras, intrinsics, size, near=_NEAR, far=_FAR)
        for picture, camera in zip(pictures, cameras):
            covers = torch.zeros(len(faces) + 1, dtype=torch.bool, device=vertices.device)
            covers[picture.flatten()] = True  # -1, nothing hit, marks the last entry
            count += covers[:-1] | _middle_seen(picture, camera, intrinsics, planes, middles)
    return count / num_views


def _middle_seen(
    picture: Tensor, extrinsics: Tensor, intrinsics: Tensor, planes: Tensor, middles: Tensor
) -> Tensor:
    """(F,) bool: whether the pixel at the middle (F, 3) of a face shows the surface that it is part of."""
    size = len(picture)
    pixels = to_pixels(to_camera(middles, extrinsics), intrinsics, size)
    column, row = pixels[:, :2].floor().long().unbind(1)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    shown = picture.flatten()[torch.where(inside, row * size + column, 0)]
    towards_eye = torch.nn.functional.normalize(eye_positions(extrinsics) - middles, dim=1)
    own, other = (planes[:, :3] * towards_eye).sum(dim=1), (planes[shown, :3] * towards_eye).sum(dim=1)
    pixel_width = pixels[:, 2] / (intrinsics[0, 0] * size)
    near = distance_to_planes(planes[shown], middles) <= _MAX_DISTANCE_PIXELS * pixel_width
    return inside & (shown >= 0) & near & (own * other > 0)
