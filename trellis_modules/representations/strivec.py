"""Radiance fields of local tensors: each leaf holds sums of products of three vectors."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from trellis_modules.representations.octree import OctreeNodes, check_colours


@dataclass(frozen=True)
class Strivec:
    """N leaves with R components of D samples an axis.

    The component r has at a place the value v_r, the product of its three vectors there. Vectors hold values
    at (i + 0.5) / D of the leaf's edge, i < D; between them they are linear, and in the outer half samples
    they go on as they are. With s = ``density_shift`` the leaf absorbs, per unit of length,
    softplus(sum_r density_r * v_r - 10 s) * min(1 / (1 - s), 25); its colour is sigmoid(sum_r v_r * c_r), c_r
    the harmonic sum of the component's coefficients.

    Attributes:
        nodes: N leaves.
        trivec: (N, R, 3, D), the vectors along x, y and z, D >= 2.
        density: (N, R), weight of each component in the density.
        features_dc: (N, R, 1, 3), degree-0 coefficients of each component; None with ``leaf_colours``.
        features_rest: (N, R, K, 3), coefficients of the higher degrees, K = 3, 8 or 15; None = degree 0.
        leaf_colours: (N, 3), colours as they are drawn, the same everywhere in a leaf.
        used_rank: how many of the components count, the first ones; None = all.
        density_shift: s above, below 1; 0 in the released decoder.

    Source: Gao et al., "Strivec: Sparse Tri-Vector Radiance Fields", 2023; TRELLIS, arXiv:2412.01506.
    """

    nodes: OctreeNodes
    trivec: Tensor
    density: Tensor
    features_dc: Tensor | None = None
    features_rest: Tensor | None = None
    leaf_colours: Tensor | None = None
    used_rank: int | None = None
    density_shift: float = 0.0

    def __post_init__(self) -> None:
        count = len(self.nodes)
        shape = tuple(self.trivec.shape)
        if len(shape) != 4 or shape[0] != count or shape[1] < 1 or shape[2] != 3 or shape[3] < 2:
            raise ValueError(f"Strivec: expected trivec ({count}, R, 3, D), R >= 1, D >= 2, got {shape}")
        if tuple(self.density.shape) != (count, self.rank):
            raise ValueError(
                f"Strivec: expected density ({count}, {self.rank}), got {tuple(self.density.shape)}"
            )
        check_colours("Strivec", shape[:2], self.features_dc, self.features_rest, self.leaf_colours)
        if self.used_rank is not None and not 1 <= self.used_rank <= self.rank:
            raise ValueError(f"Strivec: expected used_rank in [1, {self.rank}], got {self.used_rank}")
        if not self.density_shift < 1:
            raise ValueError(f"Strivec: expected density_shift < 1, got {self.density_shift}")

    @property
    def rank(self) -> int:
        """Components of a leaf."""
        return self.trivec.shape[1]

    @property
    def components(self) -> int:
        """Components that count."""
        return self.rank if self.used_rank is None else self.used_rank

    @property
    def samples_per_axis(self) -> int:
        """Samples of each vector across a leaf."""
        return self.trivec.shape[3]
