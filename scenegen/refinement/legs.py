"""Legs that an object lacks: mirror images of those that it has, where its symmetry says so.

Generated furniture lacks legs that the photo hides, or they end above the floor. Only an object that cannot
stand is looked at, so that a stool with three legs keeps three. Its solid is mirrored at the upright planes
about which the slab above its legs is symmetric; what the mirror image has below this slab and the object has
not, and what reaches from the floor to the object, is a leg.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy import ndimage
from scipy.spatial import cKDTree

from scenegen.physics.balance import support_margin
from scenegen.refinement.parts import joined_meshes, rebuilt, uvs_of
from scenegen.refinement.solid import solid_of
from trellis_modules.postprocess.hole_filling import fill_holes
from trellis_modules.postprocess.solid import report_solid
from trellis_modules.representations.mesh.triangle_arrays import weld

_RESOLUTION = 64
_FOOT_SHARE = 0.05  # of the height: the layer that stands on the floor
_STEADY = 0.12  # of the footprint's longer side: how far inside its feet the centre of mass has to be
_BODY_SHARE = 0.35  # of the widest layer's cells: the lowest layer with so many is the underside of the body
_SLAB_SHARE = 0.15  # of the height: the slab above the legs whose symmetry counts
_SYMMETRIC = 0.75  # overlap of this slab and its mirror image
_OFF_CENTRE = 3  # cells: how far from the middle of the slab a plane of symmetry may be
_WIDEST_LEG = 0.08  # of the widest layer's cells: what is wider is no leg
_SHORTEST_LEG = 3  # cells
_BITE = 2  # cells: how far a new leg goes into the object
_LONGEST_LOOP = 400  # edges of a cut through a leg

_PLANES = ((0,), (2,), (0, 2))  # axes that are mirrored: left and right, front and back, both (a half turn)


@dataclass(frozen=True)
class CompletedLegs:
    """An object whose legs were looked at.

    Attributes:
        mesh: the one given where nothing was changed.
        added: how many legs it was given, or parts of legs.
        steady: whether its centre of mass is above its feet now.
    """

    mesh: trimesh.Trimesh
    added: int
    steady: bool


@dataclass(frozen=True)
class _Leg:
    """A leg to add: the cells that it has in the object, and the mirror that takes them to where it lacks."""

    cells: np.ndarray  # (R, R, R) bool, of the leg that is there
    axes: tuple[int, ...]
    ends: tuple[int, ...]  # for each axis, the sum of a cell and its mirror image
    top: int  # layer


def complete_legs(mesh: trimesh.Trimesh) -> CompletedLegs:
    """Give an object the legs without which it cannot stand.

    Args:
        mesh: object y-up frame, in [-0.5, 0.5]^3, upright.

    Returns:
        The object; as it is where it stands, where nothing symmetric is above its legs, or where the legs
        that symmetry tells do not make it stand.
    """
    solid = solid_of(mesh, _RESOLUTION)
    filled = solid.fill.numpy()
    if not filled.any() or _is_steady(filled):
        return CompletedLegs(mesh, 0, bool(filled.any()))
    completed, added = mesh, 0
    for axes, ends, slab in _symmetries(filled):
        for leg, cells in list(_missing_legs(filled, axes, ends, slab)):
            if (made := _mirrored(completed, leg, solid.voxel)) is not None:
                completed, added = joined_meshes([completed, made], mesh), added + 1
                filled = np.maximum(filled, cells)
        if added and _is_steady(filled):
            return CompletedLegs(completed, added, True)
    return CompletedLegs(mesh, 0, False)


def _is_steady(filled: np.ndarray) -> bool:
    """Whether the centre of mass of a solid (R, R, R) is well above the area between its feet."""
    low, high = _layers(filled)
    feet = filled[:, low : low + max(round(_FOOT_SHARE * (high - low + 1)), 1)].any(axis=1)
    points = np.argwhere(feet).astype(float)
    corners = (points[:, None] + 0.5 * np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]])).reshape(-1, 2)
    weights = filled.sum(axis=1)
    centre = (
        np.array([np.arange(len(weights)) @ weights.sum(axis=1 - axis) for axis in (0, 1)]) / weights.sum()
    )
    sides = np.ptp(np.argwhere(filled.any(axis=1)), axis=0) + 1
    return support_margin(corners, centre) >= _STEADY * sides.max()


def _layers(filled: np.ndarray) -> tuple[int, int]:
    """The lowest and the highest layer of a solid."""
    used = np.flatnonzero(filled.any(axis=(0, 2)))
    return int(used[0]), int(used[-1])


def _symmetries(filled: np.ndarray) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], int]]:
    """Mirrors under which the slab above the legs stays: axes, their sums of mirrored cells, lowest layer.

    The most symmetric comes first; of those that are nearly so, left and right first.
    """
    low, high = _layers(filled)
    cells = (filled > 0).sum(axis=(0, 2))
    underside = int(np.flatnonzero(cells >= _BODY_SHARE * cells.max())[0])
    if underside - low < _SHORTEST_LEG:
        return
    thick = max(round(_SLAB_SHARE * (high - low + 1)), 1)
    slab = (filled[:, underside : underside + thick] > 0).any(axis=1)
    found = []
    for rank, axes in enumerate(_PLANES):
        tried = list(_ends(slab, axes))
        scores = [_overlap(slab, _flipped(slab, [axis // 2 for axis in axes], ends)) for ends in tried]
        best = int(np.argmax(scores))  # of equals the one nearest to the middle, which come first
        if scores[best] >= _SYMMETRIC:
            found.append((-round(scores[best], 1), rank, axes, tried[best]))
    for _, _, axes, ends in sorted(found):
        yield axes, ends, underside


def _ends(slab: np.ndarray, axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Sums of mirrored cells that are tried, for a slab (R, R) along x and z; those of its middle first."""
    middles = []
    for axis in axes:
        used = np.flatnonzero(slab.any(axis=1 - axis // 2))
        middles.append(int(used[0] + used[-1]))
    steps = itertools.product(range(-_OFF_CENTRE, _OFF_CENTRE + 1), repeat=len(axes))
    for step in sorted(steps, key=lambda each: sum(map(abs, each))):
        yield tuple(middle + each for middle, each in zip(middles, step, strict=True))


def _flipped(cells: np.ndarray, axes: Sequence[int], ends: Sequence[int]) -> np.ndarray:
    """An array after cell k of each axis has gone to ``end - k``."""
    for axis, end in zip(axes, ends, strict=True):
        cells = np.flip(cells, axis)
        shift = end - (cells.shape[axis] - 1)
        moved = np.zeros_like(cells)
        source = [slice(None)] * cells.ndim
        target = list(source)
        source[axis] = slice(max(-shift, 0), cells.shape[axis] - max(shift, 0))
        target[axis] = slice(max(shift, 0), cells.shape[axis] - max(-shift, 0))
        moved[tuple(target)] = cells[tuple(source)]
        cells = moved
    return cells


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def _missing_legs(
    filled: np.ndarray, axes: tuple[int, ...], ends: tuple[int, ...], underside: int
) -> Iterator[tuple[_Leg, np.ndarray]]:
    """Legs that a mirror image has and the object has not, and their cells in it."""
    low, high = _layers(filled)
    there = filled > 0
    around = ndimage.binary_dilation(there, np.ones((3, 1, 3), bool))
    image = _flipped(filled, axes, ends)
    lacking = (image > 0) & ~around
    lacking[:, underside:] = False
    foot = low + max(round(_FOOT_SHARE * (high - low + 1)), 1)
    widest = there.sum(axis=(0, 2)).max()
    labels, count = ndimage.label(lacking, np.ones((3, 3, 3)))
    for number in range(1, count + 1):
        cells = labels == number
        layers = np.flatnonzero(cells.any(axis=(0, 2)))
        width = cells.sum() / len(layers)
        if layers[0] >= foot or len(layers) < _SHORTEST_LEG or width > _WIDEST_LEG * widest:
            continue
        above = ndimage.binary_dilation(cells, np.ones((3, 5, 3), bool))
        if not (above & there)[:, layers[-1] :].any():
            continue
        # what the neighbourhood of the object has taken away from it belongs to it, too
        whole = ndimage.binary_dilation(cells, np.ones((3, 1, 3), bool)) & (image > 0)
        yield _Leg(_flipped(whole, axes, ends), axes, ends, int(layers[-1])), np.where(whole, image, 0)


def _mirrored(mesh: trimesh.Trimesh, leg: _Leg, voxel: float) -> trimesh.Trimesh | None:
    """The mirror image of a leg of a mesh as a closed mesh; None where the cut cannot be closed."""
    top = (leg.top + 0.5) * voxel - 0.5
    part = _cut_below(mesh, top)
    middles = np.asarray(part.vertices)[part.faces].mean(axis=1)
    cells = np.clip(np.rint((middles + 0.5) / voxel).astype(int), 0, len(leg.cells) - 1)
    wide = ndimage.binary_dilation(leg.cells, np.ones((3, 3, 3), bool))
    part = _closed(part, np.asarray(part.faces)[wide[tuple(cells.T)]])
    if part is None:
        return None
    vertices, faces = np.array(part.vertices), np.array(part.faces)
    for axis, end in zip(leg.axes, leg.ends, strict=True):
        vertices[:, axis] = end * voxel - 1 - vertices[:, axis]
        faces = faces[:, ::-1]
    low = vertices[:, 1].min()
    vertices[:, 1] = low + (vertices[:, 1] - low) * (1 + _BITE * voxel / (vertices[:, 1].max() - low))
    return rebuilt(part, vertices, faces, np.arange(len(vertices)))


def _cut_below(mesh: trimesh.Trimesh, height: float) -> trimesh.Trimesh:
    """What a mesh has below a height, open at the cut."""
    uvs = uvs_of(mesh)
    vertices, faces, cut_uvs = trimesh.intersections.slice_faces_plane(
        np.asarray(mesh.vertices, np.float64),
        np.asarray(mesh.faces),
        plane_normal=(0.0, -1.0, 0.0),
        plane_origin=(0.0, height, 0.0),
        uv=uvs,
    )
    if uvs is not None:
        visual = trimesh.visual.TextureVisuals(uv=cut_uvs, material=mesh.visual.material)
        return trimesh.Trimesh(vertices, faces, visual=visual, process=False)
    made = trimesh.Trimesh(vertices, faces, process=False)
    if mesh.visual.kind == "vertex" and len(vertices):
        nearest = cKDTree(mesh.vertices).query(vertices)[1]
        made.visual = trimesh.visual.ColorVisuals(made, vertex_colors=mesh.visual.vertex_colors[nearest])
    return made


def _closed(mesh: trimesh.Trimesh, faces: np.ndarray) -> trimesh.Trimesh | None:
    """Some faces of a mesh with their openings closed; None where they cannot be."""
    if not len(faces):
        return None
    vertices = np.array(mesh.vertices, np.float64)
    welded, corners, _ = weld(vertices, faces, tolerance=1e-7)
    points, closed = fill_holes(welded, corners, _LONGEST_LOOP)
    report = report_solid(points, closed)
    if not report.watertight or report.volume <= 0:
        return None
    used = np.unique(faces)
    nearest = used[cKDTree(vertices[used]).query(points)[1]]
    if uvs_of(mesh) is None:  # without seams no vertex has to be there twice
        return rebuilt(mesh, points, closed, nearest)
    vertices[used] = points[cKDTree(points).query(vertices[used])[1]]  # no cracks where equal places were not
    whole = np.concatenate([faces, closed[len(corners) :] + len(vertices)])
    sources = np.concatenate([np.arange(len(vertices)), nearest])
    return rebuilt(mesh, np.concatenate([vertices, points]), whole, sources)
