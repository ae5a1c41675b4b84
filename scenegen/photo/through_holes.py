"""Holes right through generated objects where the photo shows a closed surface, and what closes them.

Under the fitted camera (`scenegen.photo.camera`) the silhouette of an object may have a hole that its mask
does not have. A membrane then closes it, spanned between the edges of the hole as the camera sees them.
Openings that the mask has as well stay, and so do those that are as near to its border as poses may be wrong,
or that lie behind other objects. The outline is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from scenegen.geometry import apply_transform
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.mask_box import BoxFit
from trellis_modules.renderers import render_mesh

MIN_OVERLAP = 0.5
"""Intersection over union of silhouette and mask below which the mask tells nothing about holes."""

CLEARANCE = 1.5
"""Voxels between a hole and the border of the mask, which poses and cameras may be wrong by."""

_PIXELS = 96  # along the longer side of the object's picture: less than a voxel of a grid of 64 each
_MARGIN = 4  # pixels around it
_NEIGHBOURS = np.ones((3, 3), dtype=bool)
_THICKNESS = 1.8  # voxels: a layer of one alone has gaps where it runs across the grid
_STEP = 0.3  # between points of a membrane in depth, in voxels
_IN_PIXEL = (-0.25, 0.25)  # where rays run through a pixel, from its centre


@dataclass(frozen=True)
class _Picture:
    """What the photo's camera sees of one object.

    Attributes:
        to_camera: (4, 4) object y-up frame to camera.
        focal: of the camera, in widths of the photo.
        places: (H, W, 2) middles of the pixels, in widths of the photo from its centre.
        edge: of a pixel, in widths of the photo.
        depth: (H, W) along the camera's axis; infinite where the object is not.
        box: (2, 2) low and high corner of the object, as ``places``.
    """

    to_camera: np.ndarray
    focal: float
    places: np.ndarray
    edge: float
    depth: np.ndarray
    box: np.ndarray

    @property
    def silhouette(self) -> np.ndarray:
        """(H, W) bool."""
        return np.isfinite(self.depth)

    def voxel_in_pixels(self, voxel: float) -> float:
        """How long a voxel, given in the unit of the object, is in this picture."""
        scale = np.cbrt(np.linalg.det(self.to_camera[:3, :3]))
        return voxel * scale * self.focal / np.median(self.depth[self.silhouette]) / self.edge


def membranes_of_holes(
    vertices: np.ndarray,
    faces: np.ndarray,
    to_query: np.ndarray,
    camera: PhotoCamera,
    mask: np.ndarray,
    others: np.ndarray,
    voxel: float,
) -> np.ndarray:
    """Find what closes the holes of an object that its mask contradicts.

    Args:
        vertices: (V, 3) surface of the object, object y-up frame.
        faces: (F, 3) int.
        to_query: (4, 4) object y-up frame to query frame.
        camera: of the photo, in the query frame.
        mask: (H, W) bool, the object's pixels.
        others: (H, W) bool, pixels of other objects, behind which this one may go on.
        voxel: edge of a voxel in the unit of the object.

    Returns:
        (N, 3) points of membranes, object y-up frame, less than half a voxel apart; none where the silhouette
        does not fit the mask, or reaches behind the camera.
    """
    picture = _draw(vertices, faces, camera.extrinsics @ to_query, camera.focal)
    if picture is None:
        return np.zeros((0, 3))
    filled = ndimage.binary_fill_holes(picture.silhouette, _NEIGHBOURS)
    holes, count = ndimage.label(filled & ~picture.silhouette, _NEIGHBOURS)
    if not count:
        return np.zeros((0, 3))
    shown = _mask_in_picture(picture, filled, mask, others)
    if shown is None:
        return np.zeros((0, 3))
    inside = ndimage.distance_transform_edt(np.pad(shown, 1))[1:-1, 1:-1]  # beyond the picture is no mask
    clear = ndimage.minimum(inside, holes, np.arange(1, count + 1)) > CLEARANCE * picture.voxel_in_pixels(
        voxel
    )
    found = [_membrane(picture, holes == hole, voxel) for hole in np.flatnonzero(clear) + 1]
    return np.concatenate(found) if found else np.zeros((0, 3))


def _draw(vertices: np.ndarray, faces: np.ndarray, to_camera: np.ndarray, focal: float) -> _Picture | None:
    """Draw an object; None where a part of it is not before the camera."""
    xyz = apply_transform(to_camera, vertices)
    near, far = xyz[:, 2].min(), xyz[:, 2].max()
    if near <= 0:
        return None
    places = focal * xyz[:, :2] / xyz[:, 2:]
    low, high = places.min(axis=0), places.max(axis=0)
    edge = float((high - low).max()) / _PIXELS
    width, height = np.ceil((high - low) / edge).astype(int) + 2 * _MARGIN
    corner = low - _MARGIN * edge
    x, y = -corner / edge / (width, height)
    intrinsics = [[focal / edge / width, 0, x], [0, focal / edge / height, y], [0, 0, 1]]
    drawn = render_mesh(
        torch.from_numpy(xyz).float(),
        torch.from_numpy(faces.astype(np.int64)),
        torch.eye(4)[None],
        torch.tensor(intrinsics, dtype=torch.float32),
        (int(height), int(width)),
        near=0.9 * near,
        far=1.1 * far,
    )
    depth = np.where(drawn.face[0].numpy() >= 0, drawn.depth[0].double().numpy(), np.inf)
    rows, columns = np.indices(depth.shape) + 0.5
    middles = np.stack([columns, rows], axis=-1) * edge + corner
    return _Picture(to_camera, focal, middles, edge, depth, np.stack([low, high]))


def _mask_in_picture(
    picture: _Picture, filled: np.ndarray, mask: np.ndarray, others: np.ndarray
) -> np.ndarray | None:
    """The mask (H, W) at the pixels of a picture, or None where the filled silhouette does not fit it.

    The object's box is brought to that of its mask where the two overlap more then: poses are estimates.
    """
    height, width = mask.shape
    pixels, box = (places * width + np.array([width, height]) / 2 for places in (picture.places, picture.box))
    best, shown = 0.0, None
    for places in (pixels, BoxFit.between(box, mask).apply(pixels)):
        columns, rows = np.floor(places).astype(int).transpose(2, 0, 1)
        in_photo = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        at = rows.clip(0, height - 1), columns.clip(0, width - 1)
        own, told = mask[at] & in_photo, in_photo & ~others[at]
        overlap = (own & filled & told).sum() / max(((own | filled) & told).sum(), 1)
        if overlap > best:
            best, shown = overlap, own
    return shown if best >= MIN_OVERLAP else None


def _membrane(picture: _Picture, hole: np.ndarray, voxel: float) -> np.ndarray:
    """Points (N, 3), object frame, that span a hole (H, W) and cover its rim, all around the same depth."""
    from scipy.interpolate import LinearNDInterpolator  # most scenes have no such hole

    rim = ndimage.binary_dilation(hole, _NEIGHBOURS) & picture.silhouette
    across = LinearNDInterpolator(np.argwhere(rim), picture.depth[rim])
    depth = np.concatenate([across(np.argwhere(hole)), picture.depth[rim]])
    middles = np.concatenate([picture.places[hole], picture.places[rim]])
    within = np.stack(np.meshgrid(_IN_PIXEL, _IN_PIXEL), axis=-1).reshape(-1, 2) * picture.edge
    places = (middles[:, None] + within).reshape(-1, 2)
    rays = np.column_stack([places / picture.focal, np.ones(len(places))])
    to_object = np.linalg.inv(picture.to_camera)
    middle = apply_transform(to_object, rays * np.repeat(depth, len(within))[:, None])
    along = middle - to_object[:3, 3]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    steps = voxel * np.arange(-_THICKNESS / 2, _THICKNESS / 2 + 1e-6, _STEP)
    return (middle[:, None] + steps[:, None] * along[:, None]).reshape(-1, 3)
