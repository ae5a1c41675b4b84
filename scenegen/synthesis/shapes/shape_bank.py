"""Meshes as flat tensors on the training device, the variants trained on, and their surface voxels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scenegen.geometry import yup_to_zup
from scenegen.synthesis.furniture.mesh_pack import MeshPack
from scenegen.synthesis.furniture.records import ModelInfo
from trellis_modules.ragged import expand
from trellis_modules.representations.mesh.normals import area_vectors

_SQUARE_TOLERANCE = (
    0.03  # relative difference of width and depth up to which a stretched model keeps its symmetry
)


@dataclass(frozen=True)
class Triangles:
    """Triangles of several objects."""

    corners: Tensor  # (F, 3, 3)
    owner: Tensor  # (F,) int64, number of the object, ascending
    colours: Tensor  # (F, 3) in [0, 1]


class ShapeBank:
    """All faces of a mesh pack on one device; objects are gathered from it by model number."""

    def __init__(self, pack: MeshPack, device: torch.device) -> None:
        face_offsets = torch.from_numpy(np.asarray(pack.face_offsets, dtype=np.int64))
        vertex_offsets = torch.from_numpy(np.asarray(pack.vertex_offsets, dtype=np.int64))
        counts = face_offsets.diff()
        faces = torch.from_numpy(np.asarray(pack.faces, dtype=np.int64))
        faces = faces + torch.repeat_interleave(vertex_offsets[:-1], counts)[:, None]
        self.vertices = torch.from_numpy(np.asarray(pack.vertices, dtype=np.float32)).to(device)
        self.faces = faces.to(device)
        self.colours = torch.from_numpy(np.asarray(pack.face_colours)).to(device)
        self.first_face, self.face_count = face_offsets[:-1].to(device), counts.to(device)
        self.infos: list[ModelInfo] = list(pack.infos)
        vertices = np.split(np.asarray(pack.vertices, dtype=np.float32), pack.vertex_offsets[1:-1])
        half_extent = np.stack([np.abs(part).max(axis=0, initial=0.0) for part in vertices])
        self.half_extent = torch.from_numpy(half_extent).to(device)  # (M, 3)

    def gather(self, models: Tensor) -> Triangles:
        """Triangles, in the object y-up frame, of the objects ``models`` (K,) int64 (repeats allowed)."""
        owner, running = expand(self.face_count[models])
        face = self.first_face[models][owner] + running
        return Triangles(self.vertices[self.faces[face]], owner, self.colours[face].float() / 255)


@dataclass(frozen=True)
class Variants:
    """Shapes made from the bank: model number, stretch, bend and mirroring, one row a shape."""

    models: Tensor  # (P,) int64
    stretch: Tensor  # (P, 3) float32, multiplies x, y, z; the longest side is brought back to 1 afterwards
    mirror: Tensor  # (P,) bool, x -> -x
    bend: Tensor  # (P, 4) float32, see `bend_axes`
    infos: tuple[ModelInfo, ...]

    def triangles(self, bank: ShapeBank, rows: Tensor) -> Triangles:
        """Triangles of the shapes ``rows`` (K,), in the object y-up frame (box centred, longest side 1)."""
        found = bank.gather(self.models[rows])
        to_box = 1 / bank.half_extent[self.models[rows]].clamp(min=1e-6)
        to_box[:, 0] *= torch.where(self.mirror[rows], -1.0, 1.0)
        bent = bend_axes(found.corners * to_box[found.owner][:, None], self.bend[rows][found.owner][:, None])
        return Triangles(
            bent * self.half_extents(bank, rows)[found.owner][:, None], found.owner, found.colours
        )

    def half_extents(self, bank: ShapeBank, rows: Tensor) -> Tensor:
        """Half sides (K, 3) of the boxes of the shapes ``rows`` (K,); the longest is a half."""
        half = bank.half_extent[self.models[rows]] * self.stretch[rows]
        return half / (2 * half.amax(1, keepdim=True))


def bend_axes(points: Tensor, bend: Tensor) -> Tensor:
    """Move points (..., 3) of the box [-1, 1]^3 along each axis, the box and its planes staying planes.

    Legs become longer and seats thinner, arms wider and gaps narrower: proportions that no stretch of the
    whole gives.

    Args:
        points: y up.
        bend: (..., 4): x and z are pulled from the middle evenly to both sides, x + a sin(pi x) / pi, by the
            first and last number; y by the second likewise, and up by the third, c (1 + cos(pi y)) / pi.
            Order is kept while a < 1 and b^2 + c^2 < 1.
    """
    x, y, z = points.unbind(-1)
    along_x, along_y, lift, along_z = bend.unbind(-1)

    def pulled(value: Tensor, amount: Tensor) -> Tensor:
        return value + amount * torch.sin(math.pi * value) / math.pi

    raised = lift * (1 + torch.cos(math.pi * y)) / math.pi
    return torch.stack([pulled(x, along_x), pulled(y, along_y) + raised, pulled(z, along_z)], dim=-1)


def _draw_bend(symmetry: np.ndarray, rng: np.random.Generator, max_bend: float) -> np.ndarray:
    """Bends (P, 4) of shapes with these symmetries (P,), which they keep; four in ten are not bent."""
    bend = rng.uniform(-max_bend, max_bend, (len(symmetry), 4))
    turns_alike = ~np.isin(symmetry, (1, 2))
    bend[turns_alike & (symmetry != 4), 0] = 0.0  # round things stay round, and stars stay stars
    bend[turns_alike, 3] = bend[turns_alike, 0]
    bend[rng.random(len(symmetry)) < 0.4] = 0.0
    return bend


def _stretched(info: ModelInfo, stretch: np.ndarray) -> ModelInfo:
    """The record of a stretched model; unequal stretch of width and depth leaves half turns at most."""
    size = tuple(float(s * f) for s, f in zip(info.size_m, stretch))
    symmetry = info.symmetry
    if symmetry not in (1, 2) and abs(stretch[0] / stretch[2] - 1) > _SQUARE_TOLERANCE:
        symmetry = 2 if symmetry % 2 == 0 else 1
    return replace(info, size_m=size, symmetry=symmetry)


def make_variants(
    bank: ShapeBank,
    count: int,
    rng: np.random.Generator,
    real_share: float,
    max_stretch: float,
    device: torch.device,
    max_bend: float = 0.0,
) -> Variants:
    """Draw shapes: a share of real models (evenly over classes within the share), the rest procedural ones.

    Args:
        bank: real models and procedural ones (ids that start with "procedural/").
        count: shapes to draw.
        rng: source of randomness.
        real_share: part of the shapes made from real models; the whole when the bank has no procedural model.
        max_stretch: largest factor between the new and the old ratio of two axes (1 = none).
        device: where the tensors live.
        max_bend: largest number of `bend_axes`.
    """
    procedural = np.array([info.id.startswith("procedural/") for info in bank.infos])
    real_rows, made_rows = np.flatnonzero(~procedural), np.flatnonzero(procedural)
    share = real_share if len(made_rows) else 1.0
    pick_real = rng.random(count) < (share if len(real_rows) else 0.0)
    models = np.where(
        pick_real,
        rng.choice(real_rows if len(real_rows) else made_rows, count),
        rng.choice(made_rows if len(made_rows) else real_rows, count),
    )
    stretch = np.exp(rng.uniform(-0.5, 0.5, (count, 3)) * np.log(max_stretch))
    stretch[rng.random(count) < 0.35] = 1.0
    square = rng.random(count) < 0.5  # keep round things round half of the time
    stretch[square, 2] = stretch[square, 0]
    stretch /= stretch.mean(1, keepdims=True)
    infos = tuple(
        _stretched(replace(bank.infos[m], id=str(row)), stretch[row]) for row, m in enumerate(models)
    )
    return Variants(
        torch.as_tensor(models, device=device),
        torch.as_tensor(stretch, dtype=torch.float32, device=device),
        torch.as_tensor(rng.random(count) < 0.5, device=device),
        torch.as_tensor(
            _draw_bend(np.array([info.symmetry for info in infos]), rng, max_bend),
            dtype=torch.float32,
            device=device,
        ),
        infos,
    )


@dataclass(frozen=True)
class SurfacePoints:
    """Points spread evenly over the surfaces of K objects, as many on each."""

    points: Tensor  # (K, samples, 3), object y-up frame
    face: Tensor  # (K, samples) int64, the triangle of each
    exists: Tensor  # (K,) bool; an object without an area has points of another's


def sample_surfaces(
    triangles: Triangles, count: int, samples: int, generator: torch.Generator
) -> SurfacePoints:
    """Draw stratified area-weighted points of many objects at once, on their device.

    `furniture.surface.sample_surface` is the same draw for one mesh of arrays while data are prepared. It has
    random numbers of NumPy and positions in float64, on which the furniture's records rest.

    Args:
        triangles: corners in the object y-up frame; at least one.
        count: number of objects.
        samples: points an object.
        generator: on the device of the triangles.
    """
    corners, device = triangles.corners, triangles.corners.device
    edges = corners[:, 1:] - corners[:, :1]
    area = area_vectors(corners).norm(dim=-1).double()
    cumulative = area.cumsum(0)
    per_object = torch.zeros(count, dtype=torch.float64, device=device).index_add_(0, triangles.owner, area)
    start = per_object.cumsum(0) - per_object
    jitter = torch.rand(count, samples, generator=generator, device=device, dtype=torch.float64)
    position = (
        start[:, None] + per_object[:, None] * (torch.arange(samples, device=device) + jitter) / samples
    )
    faces = torch.bincount(triangles.owner, minlength=count)
    last = (faces.cumsum(0) - 1).clamp(min=0)[:, None]  # rounding must not lead to the next object
    face = torch.searchsorted(cumulative, position)
    face = torch.minimum(torch.maximum(face, last + 1 - faces[:, None]), last).flatten()
    u, v = torch.rand(2, len(face), generator=generator, device=device).unbind(0)
    folded = u + v > 1
    u, v = torch.where(folded, 1 - u, u), torch.where(folded, 1 - v, v)
    points = corners[face, 0] + u[:, None] * edges[face, 0] + v[:, None] * edges[face, 1]
    return SurfacePoints(points.unflatten(0, (count, samples)), face.view(count, samples), per_object > 0)


def surface_occupancy(
    triangles: Triangles, count: int, resolution: int, samples: int, generator: torch.Generator
) -> Tensor:
    """Voxels that hold a point of the surface, found with stratified area-weighted samples.

    Args:
        triangles: corners in the object y-up frame.
        count: number of objects, so that one without triangles gives an empty grid.
        resolution: voxels per edge of the unit cube.
        samples: points an object; about six a surface voxel find 99.7 % of those the surface fills evenly.
        generator: on the device of the triangles.

    Returns:
        (count, 1, resolution, resolution, resolution) bool, axes x, y, z of the object z-up frame.
    """
    device = triangles.corners.device
    occupancy = torch.zeros(count, 1, *(resolution,) * 3, dtype=torch.bool, device=device)
    if not len(triangles.corners):
        return occupancy
    drawn = sample_surfaces(triangles, count, samples, generator)
    cell = surface_cells(drawn.points, resolution).flatten(0, 1)
    owner = torch.arange(count, device=device).repeat_interleave(samples)
    occupancy[owner, 0, cell[:, 0], cell[:, 1], cell[:, 2]] = True
    # Without an area of its own, an object has drawn its samples from another's triangles.
    return occupancy & drawn.exists.view(-1, 1, 1, 1, 1)


def surface_cells(points_yup: Tensor, resolution: int) -> Tensor:
    """Cells (..., 3) int64 of the object z-up grid that points (..., 3) of the y-up frame lie in."""
    return ((yup_to_zup(points_yup) + 0.5) * resolution).long().clamp_(0, resolution - 1)
