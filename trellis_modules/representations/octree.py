"""Leaves of an octree, and voxels made of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

OBJECT_AABB = (-0.5, -0.5, -0.5, 1.0, 1.0, 1.0)
MAX_DEPTH = 10
_DENSITY_SHIFT = -2.0


@dataclass(frozen=True)
class OctreeNodes:
    """N leaves, anywhere in the box.

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


@dataclass(frozen=True)
class VoxelOctree:
    """Leaves of one density and colour each, as previews of structures use them.

    Attributes:
        nodes: N leaves.
        features_dc: (N, 1, 3), spherical-harmonic coefficients of degree 0.
        hidden_density: (N, 1), logarithm of the density before its shift; None = solid.
    """

    nodes: OctreeNodes
    features_dc: Tensor
    hidden_density: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.nodes)
        if tuple(self.features_dc.shape) != (count, 1, 3):
            raise ValueError(
                f"VoxelOctree: expected features_dc ({count}, 1, 3), got {tuple(self.features_dc.shape)}"
            )
        if self.hidden_density is not None and tuple(self.hidden_density.shape) != (count, 1):
            raise ValueError(
                f"VoxelOctree: expected hidden_density ({count}, 1), got {tuple(self.hidden_density.shape)}"
            )

    @property
    def density(self) -> Tensor:
        """(N, 1) absorption per unit of length; the largest float where solid, or denser than that."""
        if self.hidden_density is None:
            position = self.nodes.position
            return position.new_full((len(position), 1), torch.finfo(position.dtype).max)
        density = torch.exp(self.hidden_density + _DENSITY_SHIFT)
        return density.clamp_max(torch.finfo(density.dtype).max)
