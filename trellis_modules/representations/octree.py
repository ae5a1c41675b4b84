"""Leaves of an octree, and voxels made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

OBJECT_AABB = (-0.5, -0.5, -0.5, 1.0, 1.0, 1.0)
MAX_DEPTH = 10
_DENSITY_SHIFT = -2.0
_REST_COUNTS = (3, 8, 15)  # harmonics up to degree 1, 2 and 3 without that of degree 0


@dataclass(frozen=True)
class OctreeNodes:
    """N leaves that do not overlap, anywhere in the box.

    Renderers order leaves by the cells of the grid of their depth. Each leaf fills a cell, or all are shifted
    by half a cell, so that positions are the lowest corners of cells.

    Attributes:
        position: (N, 3) float, centres in units of the box, [0, 1].
        depth: (N, 1) uint8, halvings of the box down to the leaf.
        aabb: (6,) float, minimum and size of the box.
    """

    position: Tensor
    depth: Tensor
    aabb: Tensor

    def __post_init__(self) -> None:
        count = len(self.position)
        shapes = tuple(self.position.shape), tuple(self.depth.shape), tuple(self.aabb.shape)
        if shapes != ((count, 3), (count, 1), (6,)):
            raise ValueError(f"OctreeNodes: expected position (N, 3), depth (N, 1), aabb (6,), got {shapes}")
        if self.depth.dtype != torch.uint8:
            raise ValueError(f"OctreeNodes: expected depth uint8, got {self.depth.dtype}")

    @classmethod
    def from_coords(cls, coords: Tensor, resolution: int, dtype: torch.dtype = torch.float32) -> OctreeNodes:
        """The leaves of voxels in the object cube.

        Args:
            coords: (N, 3) integer voxels in [0, resolution).
            resolution: voxels per edge, a power of two.
            dtype: of the positions.

        Raises:
            ValueError: resolution is no power of two, or a voxel is no integer or lies outside the grid.
        """
        depth = resolution.bit_length() - 1
        if resolution < 1 or resolution != 1 << depth or depth > MAX_DEPTH:
            raise ValueError(
                f"OctreeNodes: resolution must be a power of two up to {1 << MAX_DEPTH}, got {resolution}"
            )
        if coords.is_floating_point():
            raise ValueError(f"OctreeNodes: coords must be integers, got {coords.dtype}")
        low, high = (int(coords.min()), int(coords.max())) if len(coords) else (0, 0)
        if low < 0 or high >= resolution:
            raise ValueError(f"OctreeNodes: coords must be in [0, {resolution}), got [{low}, {high}]")
        return cls(
            (coords.to(dtype) + 0.5) / resolution,
            torch.full((len(coords), 1), depth, dtype=torch.uint8, device=coords.device),
            torch.tensor(OBJECT_AABB, device=coords.device, dtype=dtype),
        )

    def __len__(self) -> int:
        return len(self.position)

    @property
    def xyz(self) -> Tensor:
        """(N, 3) centres in the object frame."""
        return self.position * self.aabb[3:] + self.aabb[:3]

    @property
    def size(self) -> Tensor:
        """(N, 3) edges of the leaves in the object frame."""
        return self.aabb[3:] * torch.exp2(-self.depth.to(self.position.dtype))


def check_colours(
    where: str,
    owners: tuple[int, ...],
    features_dc: Tensor | None,
    features_rest: Tensor | None,
    leaf_colours: Tensor | None,
) -> None:
    """Refuse colours of leaves that are given twice, not at all or in another shape.

    Args:
        where: opens the messages.
        owners: leading sizes of the coefficients, the first is the number of leaves.
        features_dc: (*owners, 1, 3) or None.
        features_rest: (*owners, (degree + 1)^2 - 1, 3) or None.
        leaf_colours: (N, 3) or None.

    Raises:
        ValueError: as said.
    """
    shapes = {
        name: None if value is None else tuple(value.shape)
        for name, value in zip(
            ("features_dc", "features_rest", "leaf_colours"), (features_dc, features_rest, leaf_colours)
        )
    }
    if (features_dc is None) == (leaf_colours is None):
        raise ValueError(f"{where}: expected either features_dc or leaf_colours, got shapes {shapes}")
    rest = shapes["features_rest"]
    good = (
        shapes["features_dc"] in (None, (*owners, 1, 3))
        and shapes["leaf_colours"] in (None, (owners[0], 3))
        and (rest is None or (features_dc is not None and rest in [(*owners, n, 3) for n in _REST_COUNTS]))
    )
    if not good:
        raise ValueError(
            f"{where}: expected features_dc {(*owners, 1, 3)} with features_rest (.., K, 3) beside it, "
            f"K in {_REST_COUNTS}, or leaf_colours {(owners[0], 3)}, got {shapes}"
        )


@dataclass(frozen=True)
class VoxelOctree:
    """Leaves of one density and colour each, as previews of structures use them.

    Attributes:
        nodes: N leaves.
        features_dc: (N, 1, 3), spherical-harmonic coefficients of degree 0; None with ``leaf_colours``.
        hidden_density: (N, 1), logarithm of the density before its shift; None = solid.
        features_rest: (N, K, 3), coefficients of the higher degrees, K = 3, 8 or 15; None = degree 0.
        leaf_colours: (N, 3), colours as they are drawn, the same from all sides and not clamped.
    """

    nodes: OctreeNodes
    features_dc: Tensor | None = None
    hidden_density: Tensor | None = None
    features_rest: Tensor | None = None
    leaf_colours: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.nodes)
        check_colours("VoxelOctree", (count,), self.features_dc, self.features_rest, self.leaf_colours)
        if self.hidden_density is not None and tuple(self.hidden_density.shape) != (count, 1):
            raise ValueError(
                f"VoxelOctree: expected hidden_density ({count}, 1), got {tuple(self.hidden_density.shape)}"
            )

    @property
    def density(self) -> Tensor:
        """(N, 1) absorption per unit of length; the largest float where solid."""
        if self.hidden_density is None:
            position = self.nodes.position
            return position.new_full((len(position), 1), torch.finfo(position.dtype).max)
        # clamped before: the gradient of an exponential that overflows would not be a number
        largest = math.floor(math.log(torch.finfo(self.hidden_density.dtype).max))
        return torch.exp((self.hidden_density + _DENSITY_SHIFT).clamp_max(largest))
