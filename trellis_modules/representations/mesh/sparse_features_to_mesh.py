"""From decoder features of sparse cubes to a mesh, without a dense grid of features.

The features define a field on the whole grid: vertices of no active cube lie outside (sdf +1), cubes without
features have neutral weights.  Only cubes that touch an inside vertex can be crossed, so only the vertices of
the active cubes and the cubes around inside vertices are ever stored; the mesh equals that of the dense grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from trellis_modules.representations.mesh.cube_grid import (
    NUM_CORNERS,
    corner_offsets,
    deformed_positions,
    find_keys,
    key_points,
    mean_over_cubes,
    point_keys,
    shared_corners,
)
from trellis_modules.representations.mesh.flexicubes import CubeWeights, DualMesh, flexicubes
from trellis_modules.representations.mesh.grid_tensors import enclosed, near_points
from trellis_modules.representations.mesh.mesh_result import MeshExtractResult, MeshTrainingTerms

SurfaceKind = Literal["released", "closed", "solid"]
"""What becomes of the field at the border of the grid and inside of closed shells.

"released": surfaces end at the border, as those of the released decoder do. "closed": beyond the grid is
outside, so surfaces are closed there; where nothing inside touches the border, the same. "solid": besides,
what a shell encloses is inside, so that a double skin becomes one outer surface.
"""

NUM_WEIGHTS = 21
NUM_COLOUR_CHANNELS = 6  # colour and normal map
_MAX_RESOLUTION = 2**20  # its cube still fits the 64 bits of a lattice key
_OUTSIDE_SDF = 1.0
_SDF, _DEFORM, _COLOUR = slice(0, 1), slice(1, 4), slice(4, None)
_DEVIATION_WEIGHT = 0.5
_STEPS_BY_LENGTH = sorted(product((-1, 0, 1), repeat=3), key=lambda step: (sum(map(abs, step)), step))[1:]
_SMALL_WEIGHTS_WEIGHT = 0.2


@dataclass(frozen=True)
class CubeFeatures:
    """Features of the active cubes, by meaning.

    Attributes:
        corners: (C, 8, 4 or 10), at each corner: sdf, deform (3), then colour (6) if there is one.
        weights: (C, 21), raw FlexiCubes weights.
    """

    corners: Tensor
    weights: Tensor

    @classmethod
    def split(cls, feats: Tensor, use_color: bool, sdf_bias: float) -> CubeFeatures:
        """Read (C, 101), or (C, 53) without colour: sdf 8, deform 8 x 3, weights 21, colour 8 x 6.

        ``sdf_bias`` is added to the distances.

        Raises:
            ValueError: another number of channels.
        """
        sizes = [NUM_CORNERS, NUM_CORNERS * 3, NUM_WEIGHTS]
        if use_color:
            sizes.append(NUM_CORNERS * NUM_COLOUR_CHANNELS)
        if feats.ndim != 2 or feats.shape[1] != sum(sizes):
            raise ValueError(
                f"sparse_features_to_mesh: expected feats (C, {sum(sizes)}) for use_color={use_color}, "
                f"got {tuple(feats.shape)}"
            )
        sdf, deform, weights, *colour = feats.split(sizes, dim=1)
        channels = (sdf + sdf_bias, deform, *colour)
        at_corners = torch.cat([part.unflatten(1, (NUM_CORNERS, -1)) for part in channels], dim=-1)
        return cls(at_corners, weights)


def num_channels(use_color: bool) -> int:
    """Channels a cube that :func:`sparse_features_to_mesh` reads."""
    return NUM_CORNERS * (4 + NUM_COLOUR_CHANNELS * use_color) + NUM_WEIGHTS


def sparse_features_to_mesh(
    coords: Tensor,
    feats: Tensor,
    resolution: int,
    *,
    use_color: bool = True,
    training: bool = False,
    surface: SurfaceKind = "closed",
) -> MeshExtractResult:
    """Extract the surface that the features of active cubes describe.

    Args:
        coords: (C, 3) integer cubes in [0, resolution), distinct, any order; C may be 0.
        feats: (C, 101), or (C, 53) without colour, float; see :class:`CubeFeatures`.
        resolution: cubes per edge of the object cube, in [1, 2^20].
        use_color: whether there are colour channels.
        training: also return the loss terms, and put a vertex at the centre of each quad.
        surface: see `SurfaceKind`; "solid" takes some 20 bytes for each vertex of the box around the cubes.

    Returns:
        The mesh, z up in [-0.5, 0.5]; empty when nothing is inside. Differentiable in ``feats``.

    Raises:
        ValueError: shapes that do not fit, coordinates that are no integers, outside the grid or given twice,
            features not finite, or an unknown kind of surface.

    Source: TRELLIS, arXiv:2412.01506, sec. 3.3; FlexiCubes (2023).
    """
    if surface not in get_args(SurfaceKind):
        raise ValueError(
            f"sparse_features_to_mesh: expected surface in {get_args(SurfaceKind)}, got {surface!r}"
        )
    _check_cubes(coords, feats, resolution)
    # positions on fine grids need more digits than half precision has
    feats = feats.to(torch.promote_types(feats.dtype, torch.float32))
    # The bias moves the surface outwards, so that features near zero already close it around their cubes.
    features = CubeFeatures.split(feats, use_color, sdf_bias=-1 / resolution)
    vertices, corners = shared_corners(coords, resolution)
    values = mean_over_cubes(features.corners, corners, len(vertices))
    field = _Field(vertices, values, vertices[values[:, 0] < 0])
    if surface == "solid" and len(field.crossed):
        field = _filled(field, resolution)
    margin = 0 if surface == "released" else 1
    mesh = _extract(field, coords, features.weights, resolution, margin, training)
    attributes = mesh.attributes if use_color else None
    terms = None
    if training:
        terms = MeshTrainingTerms(
            _regularization(features, values, corners, mesh),
            deformed_positions(vertices, values[:, _DEFORM], resolution),
            values[:, 0],
        )
    return MeshExtractResult(mesh.vertices, mesh.faces, attributes, resolution, terms)


def _check_cubes(coords: Tensor, feats: Tensor, resolution: int) -> None:
    where = "sparse_features_to_mesh"
    if coords.ndim != 2 or coords.shape[1] != 3 or len(coords) != len(feats):
        raise ValueError(
            f"{where}: expected coords (C, 3) for C rows of feats, got {tuple(coords.shape)} and "
            f"{tuple(feats.shape)}"
        )
    if not 1 <= resolution <= _MAX_RESOLUTION:
        raise ValueError(f"{where}: resolution must be in [1, {_MAX_RESOLUTION}], got {resolution}")
    if not len(coords):
        return
    if coords.is_floating_point():
        raise ValueError(f"{where}: coords must be integers, got {coords.dtype}")
    low, high = int(coords.min()), int(coords.max())
    if low < 0 or high >= resolution:
        raise ValueError(f"{where}: coords must be in [0, {resolution}), got [{low}, {high}]")
    if len(point_keys(coords, resolution).unique()) != len(coords):
        raise ValueError(f"{where}: coords contain a cube twice; merge duplicates before the extraction")
    if not (finite := feats.isfinite()).all():
        broken = int((~finite.all(dim=1)).sum())
        raise ValueError(
            f"{where}: features of {broken} of {len(feats)} cubes are not finite; "
            "check the decoder's weights and its precision"
        )


@dataclass(frozen=True)
class _Field:
    """Values at the grid vertices that are known; the others are outside.

    Attributes:
        vertices: (V, 3) int64, sorted by x, y, z.
        values: (V, 4 or 10) sdf, deform, raw colour.
        crossed: (N, 3) inside vertices around which the surface is looked for.
    """

    vertices: Tensor
    values: Tensor
    crossed: Tensor


def _filled(field: _Field, resolution: int) -> _Field:
    """The field whose inside also holds what its shell encloses.

    Vertices without features around the new surface take the colour of the nearest one that has some.
    """
    origin = field.vertices.amin(dim=0) - 2  # room for the neighbours of neighbours
    place = field.vertices - origin
    shape = (place.amax(dim=0) + 3).tolist()
    known = torch.full(shape, -1, dtype=torch.int32, device=place.device)
    known[place.unbind(1)] = torch.arange(len(place), dtype=torch.int32, device=place.device)
    shell = torch.zeros(shape, dtype=torch.bool, device=place.device)
    shell[place[field.values[:, 0] < 0].unbind(1)] = True
    inner = enclosed(shell, resolution)
    inside = shell | inner
    rim = inside & near_points(~inside)
    around = near_points(rim)  # all corners of crossed cubes
    points = (around | (known >= 0)).nonzero()
    points = points[((points + origin >= 0) & (points + origin <= resolution)).all(dim=1)]
    at = points.unbind(1)
    rows = known[at].long()
    unknown = rows < 0
    rows[unknown] = _nearest_rows(torch.where(around, known, -1), points[unknown])
    values = field.values[rows]
    neutral = _outside(values)
    sdf = torch.where(unknown[:, None], neutral[_SDF], values[:, _SDF])
    sdf = torch.where(inner[at][:, None], -_OUTSIDE_SDF, sdf)
    deform = torch.where(unknown[:, None], neutral[_DEFORM], values[:, _DEFORM])
    return _Field(
        points + origin, torch.cat([sdf, deform, values[:, _COLOUR]], dim=1), rim.nonzero() + origin
    )


def _nearest_rows(known: Tensor, points: Tensor) -> Tensor:
    """The row (N,) int64 of the known point nearest to each of the points (N, 3).

    Args:
        known: (X, Y, Z) int32, rows of known points, -1 elsewhere.
        points: places in the grid, none of them at its border.
    """
    rows = points.new_full((len(points),), -1)
    missing = torch.arange(len(points), device=points.device)
    for step in _STEPS_BY_LENGTH:  # nearly all have one beside them, and what is not there is farther away
        found = known[(points[missing] + points.new_tensor(step)).unbind(1)].long()
        rows[missing] = found
        missing = missing[found < 0]
    if len(missing):
        source = (known >= 0).nonzero()
        nearest = cKDTree(source.cpu().numpy()).query(points[missing].cpu().numpy())[1]
        rows[missing] = known[source[torch.from_numpy(nearest).to(source.device)].unbind(1)].long()
    return rows


def _extract(
    field: _Field, coords: Tensor, weights: Tensor, resolution: int, margin: int, training: bool
) -> DualMesh:
    """FlexiCubes on the cubes around the crossed vertices.

    Args:
        field: of the grid.
        coords, weights: (C, 3) and (C, 21) of the active cubes.
        resolution: cubes per edge of the grid.
        margin: layers of cubes around the grid, which are flat: what they close lies in its faces.
        training: see `sparse_features_to_mesh`.
    """
    padded = resolution + 2 * margin
    cubes = _cubes_touching(field.crossed + margin, padded)
    grid_vertices, corners = shared_corners(cubes, padded)
    in_grid = (grid_vertices - margin).clamp(0, resolution)
    neutral = _outside(field.values)
    grid_values = _spread(field.values, neutral, field.vertices, in_grid, resolution + 1)
    # Beyond the grid only the colour is that of its border.
    beyond = (in_grid != grid_vertices - margin).any(dim=1, keepdim=True)
    sdf = torch.where(beyond, neutral[_SDF], grid_values[:, _SDF])
    deform = torch.where(beyond, neutral[_DEFORM], grid_values[:, _DEFORM])
    order = point_keys(coords, resolution).argsort()
    grid_weights = _spread(
        weights[order], weights.new_zeros(NUM_WEIGHTS), coords[order] + margin, cubes, padded
    )
    return flexicubes(
        deformed_positions(in_grid, deform, resolution),
        sdf[:, 0],
        cubes,
        corners,
        resolution=padded,
        weights=CubeWeights.split(grid_weights),
        attributes=grid_values[:, _COLOUR].sigmoid(),
        training=training,
    )


def _outside(values: Tensor) -> Tensor:
    """Values (4 or 10,) of a vertex of no active cube: outside, undeformed, grey."""
    default = values.new_zeros(values.shape[1])
    default[_SDF] = _OUTSIDE_SDF
    return default


def _cubes_touching(vertices: Tensor, resolution: int) -> Tensor:
    """The cubes (C, 3) of the grid that have one of the vertices (V, 3) as a corner, in lattice order."""
    around = (vertices[:, None] - corner_offsets(vertices.device)).reshape(-1, 3)
    around = around[((around >= 0) & (around < resolution)).all(dim=1)]
    return key_points(point_keys(around, resolution).unique(), resolution)


def _spread(values: Tensor, default: Tensor, points: Tensor, wanted: Tensor, points_per_edge: int) -> Tensor:
    """Rows of ``values`` (of sorted lattice ``points``) at the ``wanted`` points, or ``default``."""
    position, found = find_keys(point_keys(points, points_per_edge), point_keys(wanted, points_per_edge))
    if not len(values):
        return default.expand(len(wanted), -1)
    return torch.where(found[:, None], values[position], default)


def _regularization(features: CubeFeatures, values: Tensor, corners: Tensor, mesh: DualMesh) -> Tensor:
    """Loss (): disagreement of cubes at shared corners + uneven dual vertices + large weights; 0 if empty."""
    if not len(corners):
        return features.weights.sum()
    loss = (features.corners - values[corners]).square().mean()
    loss = loss + _SMALL_WEIGHTS_WEIGHT * features.weights[:, : NUM_WEIGHTS - 1].abs().mean()
    if len(mesh.deviation):
        loss = loss + _DEVIATION_WEIGHT * mesh.deviation.mean()
    return loss
