"""Texture coordinates by xatlas."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import xatlas

# The time of xatlas grows with the square of the faces of a mesh: 5,000 faces 0.3 s, 20,000 faces 2.5 s,
# 100,000 faces minutes. Above the first number the mesh is cut into blocks of the second; 2 s for 100,000.
_MAX_FACES_WHOLE = 10_000
_MAX_FACES_BLOCK = 1_000
_PADDING_PIXELS = 2
# xatlas ends its threads without holding their lock: one that is about to wait misses the signal, and the end
# waits for it for ever. It was seen once, on a busy machine. This long after the work they all wait.
_SECONDS_UNTIL_THREADS_WAIT = 0.005


@dataclass(frozen=True)
class Unwrapped:
    """A mesh with one texture coordinate for each vertex; vertices are doubled along seams.

    Attributes:
        vertex: (W,) int64, the vertex of the given mesh.
        faces: (F, 3) int64, corners as indices into the W, in the order of the given faces.
        uvs: (W, 2) float32 in [0, 1].
    """

    vertex: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray


def unwrap(vertices: np.ndarray, faces: np.ndarray, texture_size: int) -> Unwrapped:
    """Cut a mesh into charts and pack them into one square texture.

    Args:
        vertices: (V, 3) float.
        faces: (F, 3) int, at least one; welded, or every face becomes a chart.
        texture_size: texels per edge, which sets the gap between charts.
    """
    atlas = xatlas.Atlas()
    blocks = _blocks(vertices[faces].mean(axis=1))
    used = []
    for block in blocks:
        vertex, corners = np.unique(faces[block], return_inverse=True)
        used.append(vertex)
        atlas.add_mesh(
            np.ascontiguousarray(vertices[vertex], dtype=np.float32), corners.reshape(-1, 3).astype(np.uint32)
        )
    atlas.generate(_chart_options(len(blocks) > 1), _pack_options(texture_size))
    unwrapped = _collect(atlas, blocks, used, len(faces))
    time.sleep(_SECONDS_UNTIL_THREADS_WAIT)
    return unwrapped


def _blocks(centroids: np.ndarray) -> list[np.ndarray]:
    """Indices of the faces (F,) of each block: all, or halves of halves along the longest side."""
    blocks = [np.arange(len(centroids))]
    if len(centroids) <= _MAX_FACES_WHOLE:
        return blocks
    while len(blocks[0]) > _MAX_FACES_BLOCK:  # halves are equal within one face
        blocks = [half for block in blocks for half in _halves(centroids, block)]
    return blocks


def _halves(centroids: np.ndarray, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axis = np.ptp(centroids[block], axis=0).argmax()
    order = np.argpartition(centroids[block, axis], len(block) // 2)
    return block[order[: (len(block) + 1) // 2]], block[order[(len(block) + 1) // 2 :]]


def _chart_options(in_blocks: bool) -> xatlas.ChartOptions:
    options = xatlas.ChartOptions()
    if in_blocks:
        options.max_iterations, options.max_cost = 0, 8.0  # faster, and fewer charts on a fine mesh
    return options


def _pack_options(texture_size: int) -> xatlas.PackOptions:
    options = xatlas.PackOptions()
    options.resolution, options.padding, options.bilinear = texture_size, _PADDING_PIXELS, True
    return options


def _collect(
    atlas: xatlas.Atlas, blocks: list[np.ndarray], used: list[np.ndarray], num_faces: int
) -> Unwrapped:
    """Join the blocks again, with the faces in their first order."""
    vertex, uvs, count = [], [], 0
    faces = np.empty((num_faces, 3), dtype=np.int64)
    for number, block in enumerate(blocks):
        mapping, corners, coordinates = atlas.get_mesh(number)
        vertex.append(used[number][mapping])
        uvs.append(coordinates)
        faces[block] = corners.astype(np.int64) + count
        count += len(mapping)
    return Unwrapped(np.concatenate(vertex), faces, np.concatenate(uvs).astype(np.float32))
