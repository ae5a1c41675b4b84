"""Vertex colours of generated meshes, taken from the photo.

With a fitted camera (`scenegen.photo.camera`) the vertices that it sees take the photo's colours, the
others those of the nearest seen place, where an object counts as alike on its left and right. Without
a camera, colours follow the height in the picture.
"""

from __future__ import annotations

import numpy as np
import trimesh
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from scenegen.geometry import apply_transform
from scenegen.inputs.cutouts import OPAQUE_ALPHA
from scenegen.photo.camera import PhotoCamera
from scenegen.photo.mask_box import BoxFit

MIN_OVERLAP = 0.25
"""Below this mean modal overlap the fitted camera is not believed."""

MIN_SEEN_VERTICES = 50
COLOUR_BANDS = 24
GREY = (160, 160, 160)

_DEPTH_CELLS = 64  # grid of the depth test along the object's longer side in the photo, like the voxel grid
_DEPTH_TOLERANCE = 0.04  # of the object's longest side
_MIN_FACING = 0.1  # cosine below which a surface is seen too flat to read its colour
_NORMAL_WEIGHT = 0.2  # a turn of the surface by 60 degrees counts like a distance of 0.2
_MIRROR_PENALTY = 0.05


def colour_from_photo(
    mesh: trimesh.Trimesh, to_query: np.ndarray, view: PhotoCamera, photo: np.ndarray, mask: np.ndarray
) -> bool:
    """Colour the vertices of a mesh, in place, with the pixels that show them.

    Args:
        mesh: object y-up frame.
        to_query: (4, 4) object y-up frame to query frame.
        view: camera in the query frame.
        photo: (H, W, 3) uint8.
        mask: (H, W) bool, the object's pixels.

    Returns:
        Whether enough vertices were seen; if not, the mesh is unchanged.
    """
    pixels, depth = _project_onto_mask(mesh, to_query, view, mask)
    seen = _facing_camera(mesh, to_query, view) & _nearest_in_depth(pixels, depth, _scale(to_query))
    columns, rows = np.floor(pixels).astype(int).T
    height, width = mask.shape
    seen &= (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    inner = ndimage.binary_erosion(mask)  # border pixels mix object and background
    seen[seen] = inner[rows[seen], columns[seen]]
    if seen.sum() < MIN_SEEN_VERTICES:
        return False
    colours = np.zeros((len(seen), 3))
    colours[seen] = photo[rows[seen], columns[seen]]
    colours[~seen] = _spread(mesh, seen, colours[seen])
    _set_colours(mesh, colours)
    return True


def colour_by_height(mesh: trimesh.Trimesh, cutout: Image.Image) -> None:
    """Colour the vertices of an upright mesh, in place, with the picture's colours at the same height.

    The median colour of each row band of the cut-out goes to the band of the mesh at that height.

    Args:
        mesh: object y-up frame.
        cutout: RGBA picture of the object alone; without an opaque pixel the mesh becomes grey.
    """
    profile = _vertical_colour_profile(np.asarray(cutout.convert("RGBA")), COLOUR_BANDS)
    height = mesh.vertices[:, 1]
    span = max(float(np.ptp(height)), 1e-6)
    position = (height.max() - height) / span * COLOUR_BANDS - 0.5  # 0 = middle of the top band
    bands = np.arange(COLOUR_BANDS)
    colours = [np.interp(position, bands, channel) for channel in profile.T]
    _set_colours(mesh, np.stack(colours, axis=1))


def _set_colours(mesh: trimesh.Trimesh, colours: np.ndarray) -> None:
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.rint(colours).astype(np.uint8))


def _scale(to_query: np.ndarray) -> float:
    return float(np.linalg.norm(to_query[:3, 0]))


def _project_onto_mask(
    mesh: trimesh.Trimesh, to_query: np.ndarray, view: PhotoCamera, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (V, 2) and depths (V,), moved and stretched so that the object's box meets its mask's."""
    uv, depth = view.project(apply_transform(to_query, mesh.vertices))
    height, width = mask.shape
    pixels = uv * width + np.array([width, height]) / 2
    return BoxFit.between(pixels, mask).apply(pixels), depth


def _facing_camera(mesh: trimesh.Trimesh, to_query: np.ndarray, view: PhotoCamera) -> np.ndarray:
    """Which vertices (V,) lie on a surface turned towards the camera."""
    to_camera = view.extrinsics @ to_query
    xyz = apply_transform(to_camera, mesh.vertices)
    normals = np.asarray(mesh.vertex_normals) @ to_camera[:3, :3].T / _scale(to_query)
    cosine = -(normals * xyz).sum(axis=1) / np.linalg.norm(xyz, axis=1)
    return cosine > _MIN_FACING


def _nearest_in_depth(pixels: np.ndarray, depth: np.ndarray, scale: float) -> np.ndarray:
    """Which vertices (V,) are not behind others, on a coarse depth grid."""
    low = pixels.min(axis=0)
    cell = np.floor((pixels - low) / max(np.ptp(pixels, axis=0).max(), 1e-6) * (_DEPTH_CELLS - 1)).astype(int)
    nearest = np.full((_DEPTH_CELLS, _DEPTH_CELLS), np.inf)
    np.minimum.at(nearest, (cell[:, 1], cell[:, 0]), depth)
    return depth <= nearest[cell[:, 1], cell[:, 0]] + _DEPTH_TOLERANCE * scale


def _spread(mesh: trimesh.Trimesh, seen: np.ndarray, colours: np.ndarray, neighbours: int = 6) -> np.ndarray:
    """Colours of the unseen vertices from the nearest seen ones, on either side of the middle plane x = 0."""
    place = np.hstack(
        [mesh.vertices, _NORMAL_WEIGHT * np.asarray(mesh.vertex_normals), np.zeros((len(seen), 1))]
    )
    mirrored = place[seen] * [-1, 1, 1, -1, 1, 1, 1] + [0, 0, 0, 0, 0, 0, _MIRROR_PENALTY]
    tree = cKDTree(np.concatenate([place[seen], mirrored]))
    distance, index = tree.query(place[~seen], k=neighbours, workers=-1)
    weight = 1 / (distance**2 + 1e-6)
    found = colours[index % len(colours)]
    return (found * weight[..., None]).sum(axis=1) / weight.sum(axis=1, keepdims=True)


def _vertical_colour_profile(rgba: np.ndarray, bands: int) -> np.ndarray:
    """Median colours (bands, 3) of a picture's opaque pixels from top to bottom; empty bands interpolated."""
    opaque = rgba[..., 3] > OPAQUE_ALPHA
    rows = np.flatnonzero(opaque.any(axis=1))
    if len(rows) == 0:
        return np.tile(np.float64(GREY), (bands, 1))
    y, x = np.nonzero(opaque)
    band = (y - rows[0]) * bands // (rows[-1] + 1 - rows[0])
    colours = rgba[y, x, :3]
    known = np.unique(band)
    medians = np.stack([np.median(colours[band == index], axis=0) for index in known])
    return np.stack([np.interp(np.arange(bands), known, channel) for channel in medians.T], axis=1)
