"""Which voxels a submanifold convolution reads: a table or a search of places, kept with the voxels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from trellis_modules.sparse.tensor import MAX_RESOLUTION, SparseTensor

_NOT_DISTINCT = "submanifold convolution: two voxels share a place; make the coordinates unique"

#: Cells of a table of all places (of 4 bytes each), up to which a CPU reads it instead of searching.
_MAX_CELLS = 2**25


@dataclass(frozen=True)
class NeighbourPairs:
    """The existing neighbours only, grouped by kernel offset.

    Attributes:
        inputs: (P,) int64, rows that are read.
        outputs: (P,) int64, rows that they contribute to.
        counts: pairs of each of the k^3 offsets.
    """

    inputs: Tensor
    outputs: Tensor
    counts: tuple[int, ...]


def neighbour_rows(x: SparseTensor, kernel_size: int, dilation: int = 1) -> Tensor:
    """The row of the neighbour of every voxel at every kernel offset, kept in the cache of x.

    Args:
        x: T voxels, no two at the same place.
        kernel_size: odd number of offsets along an axis.
        dilation: voxels between neighbouring offsets.

    Returns:
        (T, k^3) int64, offsets in the order x, y, z (z fastest); T where there is no neighbour.

    Raises:
        ValueError: two voxels share a place.
    """
    return x.cached(("neighbours", kernel_size, dilation), lambda: _find(x.coords, kernel_size, dilation))


def check_distinct(x: SparseTensor) -> None:
    """Refuse two voxels at one place, for kernels that do not notice; once for each set of voxels.

    Raises:
        ValueError: two voxels share a place.
    """
    x.cached("distinct", lambda: len(_sorted_keys(_keys(x.coords, 0, MAX_RESOLUTION))))


def neighbour_pairs(x: SparseTensor, kernel_size: int, dilation: int = 1) -> NeighbourPairs:
    """``neighbour_rows`` without the missing ones, kept in the cache of x."""
    rows = neighbour_rows(x, kernel_size, dilation)

    def existing() -> NeighbourPairs:
        found = (rows < len(rows)).T  # (k^3, T)
        offsets, outputs = found.nonzero(as_tuple=True)
        counts = torch.bincount(offsets, minlength=kernel_size**3).tolist()
        return NeighbourPairs(rows.T[found], outputs, tuple(counts))

    return x.cached(("neighbour pairs", kernel_size, dilation), existing)


def _find(coords: Tensor, kernel_size: int, dilation: int) -> Tensor:
    reach = dilation * (kernel_size // 2)
    if not len(coords):
        return coords.new_empty((0, kernel_size**3), dtype=torch.long)
    # A margin on both sides keeps the neighbours of border voxels apart from voxels of the next line.
    edge = int(coords[:, 1:].max()) + 1 + 2 * reach
    keys = _keys(coords, reach, edge)
    steps = torch.arange(-reach, reach + 1, max(dilation, 1)).tolist()
    offsets = [(x * edge + y) * edge + z for x, y, z in product(steps, repeat=3)]
    wanted = keys[:, None] + torch.tensor(offsets, device=keys.device)  # (T, k^3)
    cells = (int(coords[-1, 0]) + 1) * edge**3  # rows are sorted by their batch element
    if coords.device.type == "cpu" and cells <= _MAX_CELLS:
        return _rows_by_key(keys, cells)[wanted].long()
    ordered, order = _sorted_keys(keys)
    place = torch.searchsorted(ordered, wanted).clamp_max(len(keys) - 1)
    return torch.where(ordered[place] == wanted, order[place], len(keys))


def _keys(coords: Tensor, margin: int, edge: int) -> Tensor:
    """(T,) int64 numbers of voxels (T, 4) in volumes of ``edge``^3, moved inwards by a margin."""
    margins = torch.tensor((0, margin, margin, margin), device=coords.device)
    strides = torch.tensor((edge**3, edge**2, edge, 1), device=coords.device)
    return ((coords.long() + margins) * strides).sum(1)


def _rows_by_key(keys: Tensor, cells: int) -> Tensor:
    """(cells,) int32, at each key its row, elsewhere their number.

    Raises:
        ValueError: a key occurs twice.
    """
    numbers = torch.arange(len(keys), dtype=torch.int32)
    rows = torch.full((cells,), len(keys), dtype=torch.int32)
    rows[keys] = numbers
    if (rows[keys] != numbers).any():
        raise ValueError(_NOT_DISTINCT)
    return rows


def _sorted_keys(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Ascending keys and where they were.

    Raises:
        ValueError: a key occurs twice.
    """
    ordered, order = keys.sort()
    if (ordered[1:] == ordered[:-1]).any():
        raise ValueError(_NOT_DISTINCT)
    return ordered, order
