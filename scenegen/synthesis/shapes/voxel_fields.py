"""What the appearance networks learn: distance, triangle and normal of the surface around its voxels.

Distances are unsigned, because furniture meshes are rarely closed: the surface that is learnt lies a little
outside the true one on both of its sides, so that even a sheet of no thickness becomes a closed thin shell.
Lengths are in cells, the fractions of a voxel at whose corners the fields are given; frame: object, z up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scenegen.geometry import yup_to_zup
from scenegen.synthesis.shapes.shape_bank import Triangles, sample_surfaces, surface_cells
from trellis_modules.renderers.low_discrepancy import hammersley_set

MAX_DISTANCE = 2.0
"""Distances end here, in cells; colours and normals of places further away mean nothing."""

_NONE = -1
_FEATURE_SCALE = 4.0


@dataclass(frozen=True)
class FieldGrid:
    """Sizes of the grids on which fields are given."""

    resolution: int = 64  # voxels along the edge of the object's cube
    subdivision: int = 2  # cells along the edge of a voxel
    anchors: int = 4  # places in a voxel whose nearest surface points are given
    samples: int = 131072  # surface points an object that find its voxels and the triangles near them

    @property
    def cells(self) -> int:
        """Cells along the edge of the object's cube."""
        return self.resolution * self.subdivision

    def corner_steps(self, device: torch.device) -> Tensor:
        """((subdivision + 1)^3, 3) int64 steps from the first corner of a voxel to all, z fastest."""
        axis = torch.arange(self.subdivision + 1, device=device)
        return torch.cartesian_prod(axis, axis, axis)

    def anchor_places(self, device: torch.device) -> Tensor:
        """(anchors, 3) float32 in cells from the first corner of a voxel, evenly spread."""
        places = torch.as_tensor(hammersley_set(3, self.anchors), dtype=torch.float32, device=device)
        return (places + 0.5 / self.anchors).remainder(1.0) * self.subdivision


@dataclass(frozen=True)
class VoxelFields:
    """Fields at T voxels: at C corners each, and at the surface points nearest to G anchors each."""

    coords: Tensor  # (T, 4) int32 (object, x, y, z), sorted
    distance: Tensor  # (T, C) to the nearest triangle, in cells, at most MAX_DISTANCE
    face: Tensor  # (T, C) int64 number of that triangle, -1 where there is none near
    anchor_offset: Tensor  # (T, G, 3) nearest surface point minus the voxel's centre, in voxels
    anchor_face: Tensor  # (T, G) int64
    normal: Tensor | None = None  # (T, C, 3) unit, away from the nearest surface point; zero on the surface

    def painted(self, colours: Tensor) -> PaintedFields:
        """The fields with colours, grey where there is no triangle near.

        Args:
            colours: (F, 3) of the triangles, in [0, 1].
        """
        colour, anchor_colour = (
            torch.where((face >= 0)[..., None], colours[face.clamp(min=0)], 0.5)
            for face in (self.face, self.anchor_face)
        )
        return PaintedFields(self.coords, self.distance, colour, self.anchor_offset, anchor_colour)


@dataclass(frozen=True)
class PaintedFields:
    """What an object's latents are made of: fields at T voxels, with the colours of the nearest triangles."""

    coords: Tensor  # (T, 4) int32 (object, x, y, z), sorted
    distance: Tensor  # (T, C) in cells, at most MAX_DISTANCE
    colour: Tensor  # (T, C, 3) in [0, 1]
    anchor_offset: Tensor  # (T, G, 3) in voxels
    anchor_colour: Tensor  # (T, G, 3) in [0, 1]


@dataclass(frozen=True)
class _Surface:
    """Triangles in cell units, and up to two of them for each cell that holds a surface point."""

    corners: Tensor  # (F, 3, 3) in cells, z up
    of_cell: Tensor  # (2, K * cells^3) int64 numbers of triangles, _NONE where there is none


@dataclass(frozen=True)
class _Nearest:
    """The nearest known triangle of Q points."""

    face: Tensor  # (Q,) int64, _NONE where none is known
    point: Tensor  # (Q, 3) on it
    distance: Tensor  # (Q,) in cells, infinite where none is known

    @classmethod
    def unknown(cls, points: Tensor) -> _Nearest:
        far = torch.full(points.shape[:1], torch.inf, device=points.device)
        return cls(torch.full_like(far, _NONE, dtype=torch.long), points, far)

    def with_candidates(self, points: Tensor, faces: Tensor, surface: _Surface) -> _Nearest:
        """The nearer ones of these and of the triangles ``faces`` (Q,) at ``points`` (Q, 3)."""
        known = faces != _NONE
        on_triangle = closest_points(points, surface.corners[faces.clamp(min=0)])
        distance = torch.where(known, (points - on_triangle).norm(dim=-1), torch.inf)
        nearer = distance < self.distance
        return _Nearest(
            torch.where(nearer, faces, self.face),
            torch.where(nearer[:, None], on_triangle, self.point),
            torch.where(nearer, distance, self.distance),
        )


def closest_points(points: Tensor, triangles: Tensor) -> Tensor:
    """Points (Q, 3) of triangles (Q, 3, 3), or lines, that are closest to ``points`` (Q, 3)."""
    corner = triangles[:, 0]
    along, across = triangles[:, 1] - corner, triangles[:, 2] - corner
    arm = points - corner
    d00, d01, d11 = (along * along).sum(-1), (along * across).sum(-1), (across * across).sum(-1)
    d20, d21 = (arm * along).sum(-1), (arm * across).sum(-1)
    area = d00 * d11 - d01 * d01
    v = (d11 * d20 - d01 * d21) / area.clamp(min=1e-12)
    w = (d00 * d21 - d01 * d20) / area.clamp(min=1e-12)
    inside = (v >= 0) & (w >= 0) & (v + w <= 1) & (area > 1e-12)
    best = corner + v[:, None] * along + w[:, None] * across
    best_distance = torch.where(inside, (points - best).square().sum(-1), torch.inf)
    for start, end in ((0, 1), (1, 2), (2, 0)):
        origin, edge = triangles[:, start], triangles[:, end] - triangles[:, start]
        part = ((points - origin) * edge).sum(-1) / edge.square().sum(-1).clamp(min=1e-12)
        on_edge = origin + part.clamp(0, 1)[:, None] * edge
        distance = (points - on_edge).square().sum(-1)
        nearer = distance < best_distance
        best = torch.where(nearer[:, None], on_edge, best)
        best_distance = torch.where(nearer, distance, best_distance)
    return best


def voxel_fields(
    triangles: Triangles,
    count: int,
    grid: FieldGrid,
    generator: torch.Generator,
    extra_voxels: float = 0.0,
    missing_voxels: float = 0.0,
    voxels: Tensor | None = None,
) -> VoxelFields:
    """Fields around the surface voxels of ``count`` objects.

    Args:
        triangles: object y-up frame, at least one; an object without an area has no voxels.
        count: K.
        grid: sizes.
        generator: on the device of the triangles.
        extra_voxels: share of the free neighbours of surface voxels that are added, as generated structures
            are never exact.
        missing_voxels: share of the surface voxels that are left out.
        voxels: (T, 4) int64 (object, x, y, z), z up: where fields are wanted, as they are; None takes the
            voxels of the surface points.
    """
    drawn = sample_surfaces(triangles, count, grid.samples, generator)
    corners = (yup_to_zup(triangles.corners) + 0.5) * grid.cells
    cells = surface_cells(drawn.points, grid.cells)
    owner = torch.arange(count, device=corners.device)[:, None].expand(-1, grid.samples)
    keys = _keys(torch.cat([owner[..., None], cells], -1), grid.cells)[drawn.exists].flatten()
    surface = _Surface(corners, _faces_of_cells(keys, drawn.face[drawn.exists], count, grid))
    if voxels is not None:
        return _fields_at(voxels, count, surface, grid)
    occupied = torch.zeros(count, *(grid.resolution,) * 3, dtype=torch.bool, device=corners.device)
    voxel = cells // grid.subdivision
    occupied[(owner, *voxel.unbind(-1))] = True
    occupied &= drawn.exists[:, None, None, None]
    coords = _perturbed(occupied, extra_voxels, missing_voxels, generator).nonzero()
    return _fields_at(coords, count, surface, grid)


def _keys(points: Tensor, edge: int) -> Tensor:
    """Numbers (...) int64 of points (..., 4) = (object, x, y, z) in a grid of ``edge`` points an axis."""
    owner, x, y, z = points.unbind(-1)
    return ((owner * edge + x) * edge + y) * edge + z


def _faces_of_cells(keys: Tensor, faces: Tensor, count: int, grid: FieldGrid) -> Tensor:
    """The first and the last triangle with a point in each cell; which two does not depend on the order."""
    faces = faces.flatten()
    last = torch.full((count * grid.cells**3,), _NONE, device=keys.device)
    last.scatter_reduce_(0, keys, faces, reduce="amax")
    first = torch.full_like(last, torch.iinfo(torch.long).max)
    first.scatter_reduce_(0, keys, faces, reduce="amin")
    return torch.stack([torch.where(last == _NONE, _NONE, first), last])


def _perturbed(occupied: Tensor, extra: float, missing: float, generator: torch.Generator) -> Tensor:
    """Occupancy (K, R, R, R) with some voxels left out and some neighbours of the others added."""
    if not extra and not missing:
        return occupied
    chance = torch.rand(occupied.shape, generator=generator, device=occupied.device)
    beside = torch.nn.functional.max_pool3d(occupied[:, None].half(), 3, stride=1, padding=1)[:, 0] > 0
    return torch.where(occupied, chance >= missing, beside & (chance < extra))


def _fields_at(coords: Tensor, count: int, surface: _Surface, grid: FieldGrid) -> VoxelFields:
    """Fields at the voxels (T, 4) int64."""
    edge = grid.cells + 1  # corners along an axis
    first = coords * coords.new_tensor([1, *(grid.subdivision,) * 3])
    steps = torch.nn.functional.pad(grid.corner_steps(coords.device), (1, 0))
    at_corner = _keys(first[:, None] + steps, edge)  # (T, C)
    lattice = torch.zeros(count * edge**3, dtype=torch.bool, device=coords.device)
    lattice[at_corner.flatten()] = True
    keys = lattice.nonzero()[:, 0]  # (U,) every corner once
    points = _points_of(keys, edge)
    nearest = _nearest_to_corners(points, keys, count, surface, grid)
    rows = torch.empty(len(lattice), dtype=torch.long, device=coords.device)
    rows[keys] = torch.arange(len(keys), device=coords.device)
    rows = rows[at_corner]  # (T, C)

    away = points[:, 1:].float() - nearest.point
    normal = away / nearest.distance.clamp(min=1e-3)[:, None] * (nearest.face >= 0)[:, None]
    face = nearest.face[rows]
    anchor_offset, anchor_face = _fields_at_anchors(first[:, 1:].float(), face, surface, grid)
    distance = nearest.distance.clamp(max=MAX_DISTANCE)[rows]
    return VoxelFields(coords.int(), distance, face, anchor_offset, anchor_face, normal[rows])


def _points_of(keys: Tensor, edge: int) -> Tensor:
    """Inverse of ``_keys``: (U,) -> (U, 4)."""
    return torch.stack([keys // edge**3, keys // edge**2 % edge, keys // edge % edge, keys % edge], -1)


def _nearest_to_corners(
    points: Tensor, keys: Tensor, count: int, surface: _Surface, grid: FieldGrid
) -> _Nearest:
    """Nearest triangles of lattice corners (U, 4): those in the cells around, then of their neighbours."""
    places, device = points[:, 1:].float(), points.device
    nearest = _Nearest.unknown(places)
    for step in torch.cartesian_prod(*(torch.arange(-1, 1, device=device),) * 3):
        cell = points[:, 1:] + step
        valid = ((cell >= 0) & (cell < grid.cells)).all(-1)
        cell_keys = _keys(torch.cat([points[:, :1], cell.clamp(0, grid.cells - 1)], -1), grid.cells)
        for faces in surface.of_cell:
            nearest = nearest.with_candidates(places, torch.where(valid, faces[cell_keys], _NONE), surface)
    edge = grid.cells + 1
    table = torch.full((count * edge**3,), _NONE, device=device)
    table[keys] = nearest.face
    for step in (edge**2, edge, 1):
        for sign in (-1, 1):  # beyond the border of the grid lies another line, whose triangles are far away
            neighbour = (keys + sign * step).clamp(0, len(table) - 1)
            own = neighbour // edge**3 == points[:, 0]
            nearest = nearest.with_candidates(places, torch.where(own, table[neighbour], _NONE), surface)
    return nearest


def _fields_at_anchors(
    first: Tensor, corner_faces: Tensor, surface: _Surface, grid: FieldGrid
) -> tuple[Tensor, Tensor]:
    """Offset (T, G, 3) and triangle (T, G) of the surface points nearest to the anchors of voxels.

    Args:
        first: (T, 3) first corner of each voxel, in cells.
        corner_faces: (T, C) nearest triangle of each corner.
    """
    steps, offsets, faces = grid.corner_steps(first.device), [], []
    for place in grid.anchor_places(first.device):
        points = first + place
        nearest = _Nearest.unknown(points)
        for corner in ((steps - place).abs() <= 1).all(-1).nonzero()[:, 0]:
            nearest = nearest.with_candidates(points, corner_faces[:, corner], surface)
        offsets.append((nearest.point - first) / grid.subdivision - 0.5)
        faces.append(nearest.face)
    return torch.stack(offsets, 1), torch.stack(faces, 1)


def voxel_features(fields: PaintedFields) -> Tensor:
    """What the encoder reads: fields at the corners of voxels, surface points near their anchors.

    Args:
        fields: of C corners and G anchors a voxel.

    Returns:
        (T, 4 C + 6 G), larger than the position embedding that the encoder adds.
    """
    colours = [2 * colour.flatten(1) - 1 for colour in (fields.colour, fields.anchor_colour)]
    joined = torch.cat([fields.distance - 1, 2 * fields.anchor_offset.flatten(1), *colours], dim=1)
    return _FEATURE_SCALE * joined
