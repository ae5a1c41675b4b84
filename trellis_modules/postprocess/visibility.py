"""What cameras around a mesh see of it, whatever the size of its faces."""

from __future__ import annotations

import torch
from torch import Tensor

from trellis_modules.renderers import visible_faces
from trellis_modules.renderers.cameras import eye_positions, multiview_cameras, to_camera, to_pixels
from trellis_modules.representations.mesh.normals import face_normals

_NEAR, _FAR = 1.0, 3.0  # of cameras at distance 2 from the cube [-0.5, 0.5]^3
_MAX_NUMBERS = {"cuda": 1 << 24, "cpu": 1 << 21}  # pixels and faces of the views that are drawn at once
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
    pixel at its middle shows a face of the same surface: one that turns the same side to the camera, whose
    plane passes the middle within one and a half pixels, and whose normal is less than 90 degrees away.

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
    limit = _MAX_NUMBERS.get(vertices.device.type, _MAX_NUMBERS["cpu"])
    for cameras in extrinsics.split(max(limit // max(size**2, len(faces)), 1)):
        pictures = visible_faces(vertices, faces, cameras, intrinsics, size, near=_NEAR, far=_FAR)
        count += _seen(pictures, cameras, intrinsics, planes, middles).sum(dim=0)
    return count / num_views


def _seen(
    pictures: Tensor, extrinsics: Tensor, intrinsics: Tensor, planes: Tensor, middles: Tensor
) -> Tensor:
    """(V, F) bool: faces in pictures (V, S, S), and those whose surface is there at their middles (F, 3)."""
    (num_views, size), num_faces = pictures.shape[:2], len(planes)
    pictures = pictures.flatten(1)
    covers = torch.zeros(num_views, num_faces + 1, dtype=torch.bool, device=pictures.device)
    seen = covers.scatter_(1, torch.where(pictures < 0, num_faces, pictures), True)[:, :-1]
    x, y, depth = to_pixels(to_camera(middles, extrinsics), intrinsics, size).unbind(2)
    column, row = x.floor().long(), y.floor().long()
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    shown = pictures.gather(1, torch.where(inside, row * size + column, 0))
    front = eye_positions(extrinsics) @ planes[:, :3].mT + planes[:, 3] > 0  # the side turned to the camera
    alike = inside & (shown >= 0) & (front.gather(1, shown.clamp_min(0)) == front)
    view, face = (alike & ~seen).nonzero(as_tuple=True)
    pixel_width = depth[view, face] / (intrinsics[0, 0] * size)
    other = planes[shown[view, face]]
    near = distance_to_planes(other, middles[face]) <= _MAX_DISTANCE_PIXELS * pixel_width
    # at a silhouette the planes run along the view, so the far wall of a hollow shape is near them too
    seen[view, face] = near & ((other[:, :3] * planes[face, :3]).sum(dim=1) > 0)
    return seen
