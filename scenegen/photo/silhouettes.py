"""What of each object a photo's camera sees: meshes cast by rays, nearer objects in front."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from scenegen.photo.camera import PhotoCamera
from trellis_modules.renderers import visible_faces

_CELLS = 40  # along the longest side of a simplified surface
_NEAR, _FAR = 1e-4, 1.1  # in units of the distance of the farthest vertex


class Surface(NamedTuple):
    """Triangles of one object in the query frame.

    Attributes:
        vertices: (V, 3) float.
        faces: (F, 3) int.
    """

    vertices: np.ndarray
    faces: np.ndarray


def joined(surfaces: Sequence[Surface]) -> tuple[Surface, np.ndarray]:
    """All triangles of N surfaces as one, and for each face the number (F,) of its surface."""
    offsets = np.cumsum([0] + [len(surface.vertices) for surface in surfaces])
    vertices = np.concatenate([surface.vertices for surface in surfaces])
    faces = np.concatenate([surface.faces + offset for surface, offset in zip(surfaces, offsets)])
    owner = np.repeat(np.arange(len(surfaces)), [len(surface.faces) for surface in surfaces])
    return Surface(vertices, faces), owner


def visible_objects(surfaces: Sequence[Surface], views: Sequence[PhotoCamera], width: int) -> np.ndarray:
    """Cast a ray through each pixel centre of pictures of a scene.

    Args:
        surfaces: N >= 1 objects.
        views: V cameras with one aspect; what is behind them is not seen.
        width: of the pictures in pixels; the height follows from the aspect.

    Returns:
        (V, H, width) int64, the number of the nearest surface at each pixel, -1 where there is none.
    """
    scene, owner = joined(surfaces)
    extrinsics = torch.from_numpy(np.stack([view.extrinsics for view in views])).float()
    intrinsics = torch.from_numpy(np.stack([view.intrinsics() for view in views])).float()
    vertices = torch.from_numpy(np.ascontiguousarray(scene.vertices)).float()
    reach = float(vertices.norm(dim=1).max() + extrinsics[:, :3, 3].norm(dim=1).max())
    face = visible_faces(
        vertices,
        torch.from_numpy(scene.faces.astype(np.int64)),
        extrinsics,
        intrinsics,
        (picture_height(views[0].aspect, width), width),
        near=_NEAR * reach,
        far=_FAR * reach,
    ).numpy()
    return np.where(face >= 0, np.append(owner, -1)[face], -1)


def picture_height(aspect: float, width: int) -> int:
    """Rows of a picture of so many columns."""
    return max(round(width * aspect), 1)


def at_pixels(mask: np.ndarray, width: int) -> np.ndarray:
    """A mask (H, W) at the centres of the pixels of a picture of the same shape, ``width`` columns wide."""
    rows = picture_height(mask.shape[0] / mask.shape[1], width)
    places = [
        np.minimum(((np.arange(count) + 0.5) * size / count).astype(int), size - 1)
        for count, size in zip((rows, width), mask.shape)
    ]
    return mask[np.ix_(*places)]


def simplified(surface: Surface) -> Surface:
    """A coarser surface for quick looks: of the vertices in one cell of a grid the outermost one stays."""
    low, middle = surface.vertices.min(axis=0), surface.vertices.mean(axis=0)
    edge = float(np.ptp(surface.vertices, axis=0).max()) / _CELLS
    if not edge > 0:
        return surface
    cells = np.floor((surface.vertices - low) / edge).astype(np.int64) @ [(_CELLS + 1) ** 2, _CELLS + 1, 1]
    inwards = -np.square(surface.vertices - middle).sum(axis=1)
    order = np.lexsort((inwards, cells))
    _, first, rank = np.unique(cells[order], return_index=True, return_inverse=True)
    cell = np.empty(len(order), np.int64)
    cell[order] = rank.ravel()
    corners = np.sort(cell[surface.faces], axis=1)
    corners = corners[(np.diff(corners, axis=1) > 0).all(axis=1)]
    count = len(first)
    _, different = np.unique(corners @ [count**2, count, 1], return_index=True)  # quicker than rows
    return Surface(surface.vertices[order[first]], corners[different])
