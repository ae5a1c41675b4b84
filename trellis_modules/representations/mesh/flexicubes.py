"""FlexiCubes: triangles of the zero level of signed distances on cubes, differentiable in all its inputs.

Works on any list of cubes, sparse or dense.  A cube that the surface crosses gets one dual vertex a sheet;
each crossed grid edge with four cubes around it gets a quad of their dual vertices, split into triangles.

Source: Shen et al., "Flexible Isosurface Extraction for Gradient-Based Mesh Optimization", 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trellis_modules.representations.mesh.cube_grid import NUM_CORNERS, find_keys, point_keys
from trellis_modules.representations.mesh.flexicubes_tables import EDGE_CORNERS, NUM_EDGES, case_tables

_WEIGHT_RANGE = 0.99  # the weights beta and alpha stay in (0.01, 1.99), gamma in (0.005, 0.995)
_GAMMA_OFFSET = 0.005
_CUBES_AROUND_EDGE = 4
# Order of the four cubes around an edge, ascending along the grid, that makes an outward-facing loop.
_LOOP_START_OUTSIDE = (0, 1, 3, 2)
_LOOP_START_INSIDE = (2, 3, 1, 0)
_SPLIT_FIRST_DIAGONAL = ((0, 1, 2), (0, 2, 3))
_SPLIT_SECOND_DIAGONAL = ((0, 1, 3), (3, 1, 2))


@dataclass(frozen=True)
class CubeWeights:
    """Raw (unbounded) weights of C cubes; zero is neutral.

    Attributes:
        beta: (C, 12), pull of a dual vertex towards the crossings of its edges.
        alpha: (C, 8), scale of the distances at the corners.
        gamma: (C,), preference among the two diagonals of a quad.
    """

    beta: Tensor
    alpha: Tensor
    gamma: Tensor

    @classmethod
    def split(cls, weights: Tensor) -> CubeWeights:
        """Read (C, 21) as 12 beta, 8 alpha, 1 gamma."""
        beta, alpha, gamma = weights.split((NUM_EDGES, NUM_CORNERS, 1), dim=1)
        return cls(beta, alpha, gamma[:, 0])

    @classmethod
    def neutral(cls, num_cubes: int, like: Tensor) -> CubeWeights:
        """All zero, with the device and dtype of ``like``."""
        return cls.split(like.new_zeros(num_cubes, NUM_EDGES + NUM_CORNERS + 1))

    def select(self, cubes: Tensor) -> CubeWeights:
        """Bounded weights of some cubes."""
        return CubeWeights(
            _WEIGHT_RANGE * torch.tanh(self.beta[cubes]) + 1,
            _WEIGHT_RANGE * torch.tanh(self.alpha[cubes]) + 1,
            _WEIGHT_RANGE * torch.sigmoid(self.gamma[cubes]) + _GAMMA_OFFSET,
        )


@dataclass(frozen=True)
class DualMesh:
    """Extracted triangles.

    Attributes:
        vertices: (V, 3); dual vertices in cube order, then, in training, one centre a quad.
        faces: (F, 3) int64, counter-clockwise seen from outside.
        attributes: (V, A) interpolated vertex attributes, or None.
        deviation: (K,) difference of each crossing's distance from its dual vertex to their mean.
        deviation_vertex: (K,) int64 ascending, the dual vertex of each deviation.
    """

    vertices: Tensor
    faces: Tensor
    attributes: Tensor | None
    deviation: Tensor
    deviation_vertex: Tensor


@dataclass(frozen=True)
class _Crossings:
    """The K pairs of a surface cube and one of its crossed edges, sorted by dual vertex."""

    cube: Tensor  # (K,) row among the surface cubes
    edge: Tensor  # (K,) edge of the cube, 0..11
    ends: Tensor  # (K, 2) rows of the grid vertices at the ends, in the edge's direction
    dual: Tensor  # (K,) the dual vertex that owns the edge
    dual_cube: Tensor  # (D,) surface cube of each dual vertex


def flexicubes(
    positions: Tensor,
    sdf: Tensor,
    coords: Tensor,
    corners: Tensor,
    *,
    resolution: int,
    weights: CubeWeights | None = None,
    attributes: Tensor | None = None,
    training: bool = False,
) -> DualMesh:
    """Extract the surface sdf = 0 (negative inside) from cubes.

    Args:
        positions: (P, 3) float, places of the grid vertices; rows in lattice order (x, then y, then z).
        sdf: (P,) float.
        coords: (C, 3) integer cubes in [0, resolution), distinct, in lattice order.
        corners: (C, 8) rows of ``positions``, x fastest.
        resolution: cubes per edge of the grid.
        weights: raw weights of the cubes; None = neutral.
        attributes: (P, A) values to interpolate with the vertices.
        training: put a vertex at the centre of each quad (four triangles) instead of choosing a diagonal.

    Returns:
        The mesh; empty when no cube is crossed. The surface stays open where cubes are missing.

    Raises:
        ValueError: shapes that do not fit, or a signed distance that is NaN.
    """
    _check_inputs(positions, sdf, coords, corners)
    weights = weights or CubeWeights.neutral(len(coords), positions)
    inside = sdf < 0
    num_inside = inside[corners].sum(dim=1)
    surface = ((num_inside > 0) & (num_inside < NUM_CORNERS)).nonzero()[:, 0]
    bounded = weights.select(surface)
    cases = _resolved_cases(inside[corners[surface]], coords[surface], resolution)
    crossings = _crossings(cases, corners[surface])

    vertices, attributes = _dual_vertices(positions, sdf, attributes, bounded, crossings)
    deviation = _deviation(vertices, positions, sdf, crossings)
    quads = _quads(crossings, sdf)
    gamma = bounded.gamma[crossings.dual_cube]
    if training:
        vertices, faces = _split_at_centre(vertices, quads, gamma)
        attributes = None if attributes is None else _split_at_centre(attributes, quads, gamma)[0]
    else:
        faces = _split_along_diagonal(quads, gamma)
    return DualMesh(vertices, faces, attributes, deviation, crossings.dual)


def _check_inputs(positions: Tensor, sdf: Tensor, coords: Tensor, corners: Tensor) -> None:
    if positions.shape != (len(sdf), 3) or sdf.ndim != 1:
        raise ValueError(
            f"flexicubes: expected positions (P, 3) and sdf (P,), got {tuple(positions.shape)} and "
            f"{tuple(sdf.shape)}"
        )
    if coords.shape != (len(corners), 3) or corners.shape != (len(coords), NUM_CORNERS):
        raise ValueError(
            f"flexicubes: expected coords (C, 3) and corners (C, 8), got {tuple(coords.shape)} and "
            f"{tuple(corners.shape)}"
        )
    if sdf.isnan().any():
        raise ValueError(f"flexicubes: {int(sdf.isnan().sum())} of {len(sdf)} signed distances are NaN")


def _resolved_cases(inside: Tensor, coords: Tensor, resolution: int) -> Tensor:
    """Case (S,) of each surface cube, inverted where two cubes share an ambiguous face that both would split.

    Args:
        inside: (S, 8) bool of the corners.
        coords: (S, 3) cubes in lattice order.
    """
    tables, device = case_tables(), inside.device
    cases = (inside.long() << torch.arange(NUM_CORNERS, device=device)).sum(dim=1)
    problematic = torch.from_numpy(tables.problematic).to(device)
    asking = problematic[cases].nonzero()[:, 0]
    neighbours = coords[asking].long() + torch.from_numpy(tables.across).to(device)[cases[asking]]
    in_grid = ((neighbours >= 0) & (neighbours < resolution)).all(dim=1)
    # only problematic neighbours count, and those are surface cubes themselves
    position, found = find_keys(
        point_keys(coords[asking], resolution), torch.where(in_grid, point_keys(neighbours, resolution), -1)
    )
    invert = asking[found]
    return cases.index_put((invert,), 255 - cases[invert])


def _crossings(cases: Tensor, corners: Tensor) -> _Crossings:
    """List the crossed edges of the surface cubes (S,) with their dual vertices."""
    tables, device = case_tables(), cases.device
    sheet = torch.from_numpy(tables.edge_sheet).to(device)[cases]  # (S, 12)
    num_sheets = torch.from_numpy(tables.num_sheets).to(device)[cases]  # (S,)
    first_dual = num_sheets.cumsum(0) - num_sheets
    cube, edge = (sheet >= 0).nonzero(as_tuple=True)
    dual, order = (first_dual[cube] + sheet[cube, edge]).sort(stable=True)
    cube, edge = cube[order], edge[order]
    edge_corners = torch.tensor(EDGE_CORNERS, device=device)
    ends = corners[cube[:, None], edge_corners[edge]]
    dual_cube = torch.arange(len(cases), device=device).repeat_interleave(num_sheets)
    return _Crossings(cube, edge, ends, dual, dual_cube)


def _interpolate(values: Tensor, distances: Tensor) -> Tensor:
    """Values (K, 2, D) at the ends of edges, taken at the zero of the distances (K, 2): (K, D)."""
    start, end = distances[:, :1], distances[:, 1:]
    return (values[:, 0] * end - values[:, 1] * start) / (end - start)


def _sum_by_dual(values: Tensor, crossings: _Crossings) -> Tensor:
    """Sum (K, D) over the edges of each dual vertex: (V, D)."""
    return values.new_zeros(len(crossings.dual_cube), values.shape[1]).index_add(0, crossings.dual, values)


def _dual_vertices(
    positions: Tensor, sdf: Tensor, attributes: Tensor | None, weights: CubeWeights, crossings: _Crossings
) -> tuple[Tensor, Tensor | None]:
    """Weighted means of the crossings of each sheet, for the positions and the attributes."""
    edge_corners = torch.tensor(EDGE_CORNERS, device=sdf.device)[crossings.edge]
    scaled = sdf[crossings.ends] * weights.alpha[crossings.cube[:, None], edge_corners]
    beta = weights.beta[crossings.cube, crossings.edge][:, None]
    total = _sum_by_dual(beta, crossings)

    def mean_crossing(values: Tensor) -> Tensor:
        return _sum_by_dual(beta * _interpolate(values[crossings.ends], scaled), crossings) / total

    return mean_crossing(positions), None if attributes is None else mean_crossing(attributes)


def _deviation(vertices: Tensor, positions: Tensor, sdf: Tensor, crossings: _Crossings) -> Tensor:
    """|distance - mean distance| (K,) between dual vertices and the unweighted crossings of their edges."""
    zero = _interpolate(positions[crossings.ends], sdf[crossings.ends])
    distance = (zero - vertices[crossings.dual]).norm(dim=1, keepdim=True)
    mean = _sum_by_dual(distance, crossings) / _sum_by_dual(torch.ones_like(distance), crossings)
    return (distance - mean[crossings.dual]).abs()[:, 0]


def _quads(crossings: _Crossings, sdf: Tensor) -> Tensor:
    """Dual vertices (Q, 4) around each grid edge that four cubes share, outward-facing loops."""
    key = crossings.ends[:, 0] * len(sdf) + crossings.ends[:, 1]
    # sorted by edge, and by cube within an edge: dual vertices are numbered in cube order
    key, order = key.sort(stable=True)
    edges, count = key.unique_consecutive(return_counts=True)
    complete = count == _CUBES_AROUND_EDGE
    quads = crossings.dual[order[complete.repeat_interleave(count)]].reshape(-1, _CUBES_AROUND_EDGE)
    starts_outside = sdf[edges[complete] // max(len(sdf), 1)] > 0
    from_outside = quads[starts_outside][:, _LOOP_START_OUTSIDE]
    from_inside = quads[~starts_outside][:, _LOOP_START_INSIDE]
    return torch.cat([from_outside, from_inside])


def _split_along_diagonal(quads: Tensor, gamma: Tensor) -> Tensor:
    """Two triangles a quad, along the diagonal whose vertices have the larger product of gamma."""
    corner_gamma = gamma[quads]
    first = corner_gamma[:, 0] * corner_gamma[:, 2] > corner_gamma[:, 1] * corner_gamma[:, 3]
    split = torch.where(
        first[:, None],
        quads[:, torch.tensor(_SPLIT_FIRST_DIAGONAL, device=quads.device).flatten()],
        quads[:, torch.tensor(_SPLIT_SECOND_DIAGONAL, device=quads.device).flatten()],
    )
    return split.reshape(-1, 3)


def _split_at_centre(values: Tensor, quads: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Append the gamma-weighted centre of each quad to (V, D) values; four triangles a quad."""
    corner, corner_gamma = values[quads], gamma[quads]
    first = (corner_gamma[:, 0] * corner_gamma[:, 2])[:, None]
    second = (corner_gamma[:, 1] * corner_gamma[:, 3])[:, None]
    centre = first * (corner[:, 0] + corner[:, 2]) / 2 + second * (corner[:, 1] + corner[:, 3]) / 2
    centre = centre / (first + second)
    centre_row = len(values) + torch.arange(len(quads), device=quads.device)
    faces = torch.stack([quads, quads.roll(-1, dims=1), centre_row[:, None].expand_as(quads)], dim=-1)
    return torch.cat([values, centre]), faces.reshape(-1, 3)
