"""Resolution steps of sparse tensors: averaging down, copying up, splitting voxels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from trellis_modules.sparse.tensor import MAX_RESOLUTION, SparseTensor

_DOWN, _SUBDIVIDE = "down", "subdivide"


@dataclass(frozen=True)
class _Coarsening:
    """The coarse voxels of a grid and which of them every fine voxel belongs to."""

    coords: Tensor  # (P, 4) int32 of the coarse voxels
    lengths: tuple[int, ...]  # coarse voxels of each batch element
    parent: Tensor  # (T,) int64, coarse row of every fine row
    count: Tensor  # (P,) fine voxels of every coarse one


@dataclass(frozen=True)
class _Fine:
    """What upsampling needs to return to the grid that was coarsened."""

    coords: Tensor
    lengths: tuple[int, ...]
    parent: Tensor


class SparseDownsample(nn.Module):
    """Pool voxels into coarser ones; rows come out sorted by (batch, x, y, z).

    The pooled feature is the sum of the children divided by their number plus one: the original mean
    includes the zero it starts from, and the released weights were trained with it.
    """

    def __init__(self, factor: int | tuple[int, int, int]) -> None:
        """``factor``: fine voxels along each edge of a coarse one."""
        super().__init__()
        self.factor = _triple(factor)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(B, C) -> (B, C) on the coarse grid; ``SparseUpsample`` leads back."""
        coarse = x.cached((_DOWN, self.factor), lambda: _coarsen(x, self.factor))
        level = (*x.level, (_DOWN, self.factor))
        sums = x.feats.new_zeros(len(coarse.coords), *x.feats.shape[1:])
        sums = sums.index_add(0, coarse.parent, x.feats)
        divisor = (coarse.count + 1).to(x.dtype).reshape(-1, *[1] * (x.feats.ndim - 1))
        pooled = x.at_level(level, sums / divisor, coarse.coords, coarse.lengths)
        pooled.cached("fine", lambda: _Fine(x.coords, x.lengths, coarse.parent))
        return pooled


class SparseUpsample(nn.Module):
    """Return to the grid that a ``SparseDownsample`` of the same factor left; children copy their parent."""

    def __init__(self, factor: int | tuple[int, int, int]) -> None:
        """``factor``: as in the downsampling to undo."""
        super().__init__()
        self.factor = _triple(factor)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(B, C) -> (B, C) on the fine grid.

        Raises:
            ValueError: x does not stem from a downsampling by this factor.
        """
        if not x.level or x.level[-1] != (_DOWN, self.factor):
            raise ValueError(
                f"SparseUpsample: expected a tensor downsampled by {self.factor}, got level {x.level}; "
                "the grid to return to is known only after SparseDownsample"
            )
        fine: _Fine = x.recall("fine")
        feats = x.feats.index_select(0, fine.parent)
        return x.at_level(x.level[:-1], feats, fine.coords, fine.lengths)


class SparseSubdivide(nn.Module):
    """Split every voxel into its eight halves, z fastest; children are contiguous and copy the feature."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(B, C) -> (B, C) with eight times the voxels.

        Raises:
            ValueError: the finer coordinates would leave [0, 1024).
        """
        coords, lengths = x.cached(_SUBDIVIDE, lambda: _subdivide(x))
        feats = x.feats.repeat_interleave(8, dim=0)
        return x.at_level((*x.level, (_SUBDIVIDE,)), feats, coords, lengths)


def _triple(factor: int | tuple[int, int, int]) -> tuple[int, int, int]:
    factors = (factor,) * 3 if isinstance(factor, int) else tuple(factor)
    if len(factors) != 3 or min(factors) < 1:
        raise ValueError(f"resolution step: factor must be a positive integer or three of them, got {factor}")
    return factors


def _coarsen(x: SparseTensor, factor: tuple[int, int, int]) -> _Coarsening:
    divisors = torch.tensor((1, *factor), device=x.device)
    batch, *xyz = torch.div(x.coords.long(), divisors, rounding_mode="floor").unbind(1)
    keys = batch
    for axis in xyz:
        keys = keys * MAX_RESOLUTION + axis
    keys, parent, count = torch.unique(keys, return_inverse=True, return_counts=True)
    columns = []
    for _ in xyz:
        columns.append(keys % MAX_RESOLUTION)
        keys = keys // MAX_RESOLUTION
    coords = torch.stack([keys, *reversed(columns)], dim=1).int()
    lengths = torch.bincount(keys, minlength=x.batch_size).tolist()
    return _Coarsening(coords, tuple(lengths), parent, count)


def _subdivide(x: SparseTensor) -> tuple[Tensor, tuple[int, ...]]:
    if len(x.coords) and (highest := int(x.coords[:, 1:].max())) * 2 + 1 >= MAX_RESOLUTION:
        raise ValueError(
            f"SparseSubdivide: coordinate {highest} would become {2 * highest + 1}, "
            f"beyond the limit of {MAX_RESOLUTION} voxels an edge"
        )
    corners = torch.tensor([(0, *corner) for corner in product((0, 1), repeat=3)], device=x.device)
    doubled = x.coords * torch.tensor((1, 2, 2, 2), device=x.device)
    coords = (doubled[:, None] + corners).flatten(0, 1).int()
    return coords, tuple(8 * length for length in x.lengths)
