"""Radiance fields of local tensors: each leaf holds sums of products of three vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trellis_modules.representations.octree import OctreeNodes


@dataclass(frozen=True)
class Strivec:
    """N leaves with R components of D samples an axis.

    Attributes:
        nodes: N leaves.
        trivec: (N, R, 3, D), the vectors along x, y and z.
        density: (N, R), weight of each component in the density.
        features_dc: (N, R, 1, 3), degree-0 coefficients of each component.

    Source: Gao et al., "Strivec: Sparse Tri-Vector Radiance Fields", 2023; TRELLIS, arXiv:2412.01506.
    """

    nodes: OctreeNodes
    trivec: Tensor
    density: Tensor
    features_dc: Tensor

    def __post_init__(self) -> None:
        count = len(self.nodes)
        if self.trivec.ndim != 4 or len(self.trivec) != count or self.trivec.shape[2] != 3:
            raise ValueError(f"Strivec: expected trivec ({count}, R, 3, D), got {tuple(self.trivec.shape)}")
        rank = self.trivec.shape[1]
        shapes = tuple(self.density.shape), tuple(self.features_dc.shape)
        if shapes != ((count, rank), (count, rank, 1, 3)):
            raise ValueError(
                f"Strivec: expected density ({count}, {rank}) and features_dc ({count}, {rank}, 1, 3), "
                f"got {shapes}"
            )

    @property
    def rank(self) -> int:
        """Components of a leaf."""
        return self.trivec.shape[1]

    @property
    def samples_per_axis(self) -> int:
        """Samples of each vector across a leaf."""
        return self.trivec.shape[3]
