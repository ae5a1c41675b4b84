"""Pictures of triangle meshes: faces, depth, normals and interpolated vertex attributes."""

from __future__ import annotations

import torch
from torch import Tensor

from trellis_modules.renderers.backends import MESH_BACKENDS
from trellis_modules.renderers.cameras import Cameras, Size, camera_rays, to_camera
from trellis_modules.renderers.rendering import (
    Rendering,
    mean_depth,
    over_background,
    reduce_samples,
    sample_shape,
)
from trellis_modules.renderers.silhouettes import blend_silhouettes
from trellis_modules.representations.mesh.normals import face_normals

# 512 MiB of face numbers; few parts, because embree builds its search tree for each
_MAX_PIXELS = 1 << 24
_EPSILON = 1e-20  # keeps the division by the area of a degenerate triangle finite


def render_mesh(
    vertices: Tensor,
    faces: Tensor,
    extrinsics: Tensor,
    intrinsics: Tensor,
    size: Size,
    *,
    vertex_attributes: Tensor | None = None,
    background: tuple[float, float, float] = (0, 0, 0),
    near: float = 1.0,
    far: float = 100.0,
    ssaa: int = 1,
    silhouettes: bool = False,
    backend: str = "auto",
) -> Rendering:
    """Draw a mesh from V cameras; both sides of every face are visible.

    Depth and attributes carry gradients to vertices and attributes; silhouettes do so where asked for.

    Args:
        vertices: (V, 3) float, world.
        faces: (F, 3) integer.
        extrinsics: (N, 4, 4) world to camera, OpenCV axes.
        intrinsics: (3, 3) for all cameras or (N, 3, 3), normalised.
        size: pixels per edge, or (height, width).
        vertex_attributes: (V, C) float; the first three are the colour where C >= 3.
        background: colour where nothing is hit.
        near, far: depths between which a surface is drawn, 0 < near < far.
        ssaa: samples per pixel and axis.
        silhouettes: blend samples across silhouettes, for gradients to where these lie.
        backend: "auto" or a name in ``MESH_BACKENDS``.

    Returns:
        Rendering; faces are those of one sample near each pixel's centre (at it for odd ``ssaa``).

    Raises:
        ValueError: shapes or numbers are out of range, or the backend is unknown.
        BackendUnavailable: the named backend cannot run here.
    """
    _check_attributes(vertex_attributes, len(vertices))
    cameras = Cameras.of(
        "render_mesh", extrinsics, intrinsics, sample_shape("render_mesh", size, ssaa), near, far, vertices
    )
    face = _visible_faces(vertices, faces, cameras, backend)
    hit, weights, depth = _interpolation(vertices, faces, cameras, face)
    corners = faces.long()[face[hit]]
    layers = [torch.ones_like(depth)[:, None], depth[:, None], face_normals(vertices[corners])]
    if vertex_attributes is not None:
        layers.append(torch.einsum("pk,pkc->pc", weights, vertex_attributes[corners]))
    samples = torch.cat(layers, dim=1)
    pictures = samples.new_zeros((*face.shape, samples.shape[1])).index_put(hit, samples)
    if silhouettes:
        pictures = blend_silhouettes(pictures, face, pictures[..., 1], vertices, faces.long(), cameras)
    pictures = reduce_samples(pictures, ssaa)
    return _rendering(pictures, face[:, ssaa // 2 :: ssaa, ssaa // 2 :: ssaa], background, vertex_attributes)


def _rendering(
    pictures: Tensor, face: Tensor, background: tuple[float, float, float], vertex_attributes: Tensor | None
) -> Rendering:
    """Layers (V, H, W, C) of alpha, depth, normal and attributes by name."""
    alpha, normal, attributes = pictures[..., 0], pictures[..., 2:5], pictures[..., 5:]
    return Rendering(
        colour=over_background(attributes[..., :3], alpha, background) if attributes.shape[-1] >= 3 else None,
        alpha=alpha,
        depth=mean_depth(pictures[..., 1], alpha),
        normal=torch.nn.functional.normalize(normal, dim=-1),
        face=face,
        attributes=attributes if vertex_attributes is not None else None,
    )


def _check_attributes(vertex_attributes: Tensor | None, num_vertices: int) -> None:
    if vertex_attributes is not None and vertex_attributes.shape[:1] != (num_vertices,):
        raise ValueError(
            f"render_mesh: expected vertex_attributes ({num_vertices}, C), one row a vertex, "
            f"got {tuple(vertex_attributes.shape)}"
        )


def visible_faces(
    vertices: Tensor,
    faces: Tensor,
    extrinsics: Tensor,
    intrinsics: Tensor,
    size: Size,
    *,
    near: float = 1.0,
    far: float = 100.0,
    backend: str = "auto",
) -> Tensor:
    """The face at every pixel centre: (N, height, width) int64, -1 where nothing is hit.

    Arguments and errors are those of :func:`render_mesh`.
    """
    cameras = Cameras.of("visible_faces", extrinsics, intrinsics, size, near, far, vertices)
    return _visible_faces(vertices, faces, cameras, backend)


def count_views_of_faces(
    vertices: Tensor,
    faces: Tensor,
    extrinsics: Tensor,
    intrinsics: Tensor,
    size: Size,
    *,
    near: float = 1.0,
    far: float = 100.0,
    backend: str = "auto",
) -> Tensor:
    """In how many of N views each face covers a pixel centre: (F,) int64.

    Arguments and errors are those of :func:`render_mesh`; memory does not grow with the number of views.
    """
    counts = torch.zeros(len(faces), dtype=torch.int64, device=vertices.device)
    cameras = Cameras.of("count_views_of_faces", extrinsics, intrinsics, size, near, far, vertices)
    for part in cameras.split(_MAX_PIXELS // (cameras.height * cameras.width)):
        seen = _visible_faces(vertices, faces, part, backend)
        for picture in seen:
            present = torch.zeros(len(faces) + 1, dtype=torch.bool, device=seen.device)
            present[picture.flatten()] = True  # -1, the background, falls on the last entry
            counts += present[:-1]
    return counts


def _visible_faces(vertices: Tensor, faces: Tensor, cameras: Cameras, backend: str) -> Tensor:
    _check_mesh(vertices, faces)
    run = MESH_BACKENDS.select(backend, vertices.device, vertices.dtype)
    if not len(faces) or not len(cameras):
        empty = (len(cameras), *cameras.shape)
        return torch.full(empty, -1, dtype=torch.int64, device=vertices.device)
    return run(vertices, faces.long(), cameras)


def _check_mesh(vertices: Tensor, faces: Tensor) -> None:
    """Refuse what would read beyond the vertices, which ends the process on a GPU."""
    shapes = tuple(vertices.shape), tuple(faces.shape)
    if shapes != ((len(vertices), 3), (len(faces), 3)):
        raise ValueError(
            f"meshes: expected vertices (V, 3) and faces (F, 3), got {shapes[0]} and {shapes[1]}"
        )
    if faces.is_floating_point():
        raise ValueError(f"meshes: expected vertex numbers as integers, got {faces.dtype}")
    low, high = torch.stack(faces.aminmax()).tolist() if len(faces) else (0, -1)
    if low < 0 or high >= len(vertices):
        raise ValueError(
            f"meshes: expected vertex numbers in [0, {len(vertices)}), got [{low}, {high}]; check the faces"
        )


def _interpolation(
    vertices: Tensor, faces: Tensor, cameras: Cameras, face: Tensor
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """Where the rays through the pixel centres meet the faces that they see.

    Returns:
        indices (view, row, column) of the P pixels that are hit, weights (P, 3) of the corners of their
        faces, and their camera depth (P,).
    """
    hit = (face >= 0).nonzero(as_tuple=True)
    view, row, column = hit
    ray = camera_rays(cameras.intrinsics, cameras.shape)[view, row, column]
    # in the camera frame the eye is the origin, so the numbers stay small for distant cameras
    camera = to_camera(vertices, cameras.extrinsics)
    a, b, c = (camera[view, corner] for corner in faces.long()[face[hit]].unbind(1))
    ab, ac = b - a, c - a
    across = torch.linalg.cross(ray, ac)
    scale = (ab * across).sum(-1)
    scale = torch.where(scale.abs() < _EPSILON, torch.full_like(scale, _EPSILON), scale)
    weight_b = -(a * across).sum(-1) / scale
    weight_c = -(ray * torch.linalg.cross(a, ab)).sum(-1) / scale
    weights = torch.stack([1 - weight_b - weight_c, weight_b, weight_c], dim=1).clamp(0, 1)
    weights = weights / weights.sum(1, keepdim=True)
    depth = torch.stack([a[:, 2], b[:, 2], c[:, 2]], dim=1)
    return hit, weights, (weights * depth).sum(1)
