"""Batches of voxel sets with features: rows of voxels instead of dense grids."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate
from operator import add, mul, sub, truediv
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

#: Coordinates are below this in every axis, so that serialization codes fit 10 bits an axis.
MAX_RESOLUTION = 1024

#: Batch elements of a tensor; with it 64 bits number every voxel and its neighbours without overflow.
MAX_BATCH_SIZE = 2**16

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

#: The resolution steps that lead from the first tensor to this one, e.g. ``(("down", (2, 2, 2)),)``.
Level = tuple[tuple, ...]


class SparseTensor:
    """Features at voxels of several batch elements; elements may be empty.

    Tensors that stem from one another share a cache of what depends on the voxels only: neighbour maps,
    attention segments, coarser grids.  Its entries are kept by level, the exact path of down- and upsampling
    steps, so that grids of different resolution or row order never meet.

    Attributes:
        feats: (T, ...) features.
        coords: (T, 4) int32, columns (batch, x, y, z); rows of a batch element are contiguous.
        layout: rows of each batch element.
        level: see ``Level``; empty for a tensor made from coordinates.
    """

    def __init__(self, feats: Tensor, coords: Tensor, batch_size: int | None = None) -> None:
        """Check and wrap rows of voxels.

        Args:
            feats: (T, ...) features, on the device of coords.
            coords: (T, 4) integers (batch, x, y, z), xyz in [0, 1024), sorted by batch.
            batch_size: number of batch elements, which counts empty ones at the end; default: the largest
                batch index plus one.

        Raises:
            ValueError: shapes, dtype, order or range are wrong.
        """
        _check_rows(feats, coords)
        if batch_size is None:
            batch_size = int(coords[-1, 0]) + 1 if len(coords) else 0
        _check_coords(coords.long(), batch_size)
        counts = torch.bincount(coords[:, 0].long(), minlength=batch_size).tolist()
        self._set(feats, coords.int(), _layout(counts), (), {})

    def _set(
        self, feats: Tensor, coords: Tensor, layout: tuple[slice, ...], level: Level, cache: dict
    ) -> SparseTensor:
        self.feats, self.coords, self.layout, self.level, self._cache = feats, coords, layout, level, cache
        return self

    @classmethod
    def full(
        cls,
        aabb: Sequence[int],
        shape: tuple[int, int],
        value: float,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> SparseTensor:
        """Every voxel of a box, filled with one value.

        Args:
            aabb: (x0, y0, z0, x1, y1, z1), both corners inside.
            shape: (batch elements, channels).
            value: of all features.
        """
        batch_size, channels = shape
        ranges = [torch.arange(low, high + 1, device=device) for low, high in zip(aabb[:3], aabb[3:])]
        coords = torch.cartesian_prod(torch.arange(batch_size, device=device), *ranges).int()
        feats = torch.full((len(coords), channels), value, dtype=dtype, device=device)
        return cls(feats, coords, batch_size)

    # --- description ---------------------------------------------------------------------------------

    @property
    def batch_size(self) -> int:
        """Number of batch elements, empty ones included."""
        return len(self.layout)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Voxels of each batch element."""
        return tuple(rows.stop - rows.start for rows in self.layout)

    @property
    def shape(self) -> torch.Size:
        """(batch elements, *feature axes)."""
        return torch.Size((self.batch_size, *self.feats.shape[1:]))

    @property
    def ndim(self) -> int:
        """Number of axes of ``shape``."""
        return self.feats.ndim

    @property
    def device(self) -> torch.device:
        """Device of features and coordinates."""
        return self.feats.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the features."""
        return self.feats.dtype

    def __repr__(self) -> str:
        return f"SparseTensor(shape={tuple(self.shape)}, voxels={self.lengths}, {self.dtype}, {self.device})"

    def check_resolution(self, resolution: int, where: str) -> None:
        """Refuse voxels outside a grid; one transfer from the device for each set of voxels.

        Args:
            resolution: voxels per edge of the grid.
            where: named in the error.

        Raises:
            ValueError: a coordinate is at or beyond ``resolution``.
        """
        highest = self.cached("highest", lambda: int(self.coords[:, 1:].max()) if len(self.coords) else -1)
        if highest >= resolution:
            raise ValueError(
                f"{where}: coordinates must be in [0, {resolution}), got {highest}; "
                "check the resolution of the grid"
            )

    # --- same voxels, other features -----------------------------------------------------------------

    def replace(self, feats: Tensor) -> SparseTensor:
        """The same voxels with other features (T, ...), sharing the cache.

        Raises:
            ValueError: the number of rows differs.
        """
        if len(feats) != len(self.coords):
            raise ValueError(
                f"SparseTensor.replace: expected {len(self.coords)} rows, got {tuple(feats.shape)}; "
                "make a new SparseTensor for other voxels"
            )
        return object.__new__(SparseTensor)._set(feats, self.coords, self.layout, self.level, self._cache)

    def apply(self, function: Callable[[Tensor], Tensor]) -> SparseTensor:
        """``replace(function(feats))``: a dense layer or activation on every voxel."""
        return self.replace(function(self.feats))

    def to(self, target: torch.device | str | torch.dtype) -> SparseTensor:
        """Move to a device, which starts a new cache, or convert the features."""
        if isinstance(target, torch.dtype):
            return self.apply(lambda feats: feats.to(target))
        if torch.device(target) == self.device:
            return self
        return object.__new__(SparseTensor)._set(
            self.feats.to(target), self.coords.to(target), self.layout, (), {}
        )

    def reshape(self, *shape: int) -> SparseTensor:
        """Give the features another shape: (T, ...) -> (T, *shape)."""
        return self.apply(lambda feats: feats.reshape(len(feats), *shape))

    def unbind(self, dim: int) -> list[SparseTensor]:
        """Split along an axis of ``shape``: 0 gives the batch elements, another axis its features."""
        if dim % self.ndim == 0:
            return [self[index] for index in range(self.batch_size)]
        return [self.replace(feats) for feats in self.feats.unbind(dim)]

    # --- per batch element ---------------------------------------------------------------------------

    @property
    def batch_index(self) -> Tensor:
        """(T,) int64, the batch element of every row."""
        return self.cached("batch_index", lambda: self.coords[:, 0].long())

    def expand_batch(self, values: Tensor) -> Tensor:
        """Give every voxel the value of its batch element: (B, ...) -> (T, ...)."""
        if len(values) != self.batch_size:
            raise ValueError(
                f"SparseTensor: expected one value for each of {self.batch_size} batch elements, "
                f"got {tuple(values.shape)}"
            )
        return values.index_select(0, self.batch_index)

    def __getitem__(self, index: int | slice | Sequence[int] | Sequence[bool] | Tensor) -> SparseTensor:
        """Chosen batch elements, renumbered from 0 in the order given."""
        if isinstance(index, Sequence):  # an empty one has no numbers that would tell the dtype
            index = torch.tensor(index, dtype=None if index else torch.long)
        elif isinstance(index, Tensor):
            index = index.cpu()
        chosen = torch.arange(self.batch_size)[index]
        elements = chosen.reshape(-1).tolist()
        slices = [self.layout[element] for element in elements]
        feats = torch.cat([self.feats[:0], *(self.feats[rows] for rows in slices)])
        coords = torch.cat([self.coords[:0], *(self.coords[rows] for rows in slices)])
        counts = [rows.stop - rows.start for rows in slices]
        return object.__new__(SparseTensor)._set(feats, _renumber(coords, counts), _layout(counts), (), {})

    def dense(self) -> Tensor:
        """(B, C, X, Y, Z), zero where there is no voxel; each edge is the largest coordinate plus one."""
        edges = (self.coords[:, 1:].amax(0) + 1).tolist() if len(self.coords) else [0, 0, 0]
        volume = self.feats.new_zeros(self.batch_size, *edges, *self.feats.shape[1:])
        volume[self.coords.long().unbind(1)] = self.feats
        return volume.movedim((1, 2, 3), (-3, -2, -1))

    # --- the cache -----------------------------------------------------------------------------------

    def cached(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What depends on the voxels of this level only: computed once for all tensors that share them."""
        full_key = (self.level, key)
        if full_key not in self._cache:
            self._cache[full_key] = compute()
        return self._cache[full_key]

    def recall(self, key: Hashable) -> Any:
        """What ``cached`` has computed for these voxels before.

        Raises:
            KeyError: nothing was kept under this key.
        """
        return self._cache[(self.level, key)]

    def at_level(self, level: Level, feats: Tensor, coords: Tensor, lengths: Sequence[int]) -> SparseTensor:
        """A related tensor at another level, sharing the cache; for the resolution steps in ``spatial``."""
        return object.__new__(SparseTensor)._set(feats, coords, _layout(lengths), level, self._cache)

    # --- arithmetic ----------------------------------------------------------------------------------
    # A dense operand with one value for each batch element is applied per element, any other one to the rows;
    # with as many rows as elements the former holds.  ``apply`` always works on the rows.

    def _combine(self, other: Any, operation: Callable[[Any, Any], Tensor]) -> SparseTensor:
        if isinstance(other, SparseTensor):
            if other.lengths != self.lengths:
                raise ValueError(
                    f"SparseTensor: operands have different voxels, {self.lengths} and {other.lengths} rows"
                )
            other = other.feats
        elif isinstance(other, Tensor) and self.batch_size > 1 and self._is_per_batch(other):
            other = self.expand_batch(other)
        return self.replace(operation(self.feats, other))

    def _is_per_batch(self, other: Tensor) -> bool:
        """Whether an operand broadcasts to ``shape`` with a value for each batch element."""
        return (
            other.ndim == self.ndim
            and len(other) == self.batch_size
            and all(size in (1, ours) for size, ours in zip(other.shape[1:], self.shape[1:]))
        )

    def __neg__(self) -> SparseTensor:
        return self.replace(-self.feats)

    def __add__(self, other: Any) -> SparseTensor:
        return self._combine(other, add)

    def __sub__(self, other: Any) -> SparseTensor:
        return self._combine(other, sub)

    def __mul__(self, other: Any) -> SparseTensor:
        return self._combine(other, mul)

    def __truediv__(self, other: Any) -> SparseTensor:
        return self._combine(other, truediv)

    def __rsub__(self, other: Any) -> SparseTensor:
        return self._combine(other, lambda ours, theirs: theirs - ours)

    def __rtruediv__(self, other: Any) -> SparseTensor:
        return self._combine(other, lambda ours, theirs: theirs / ours)

    __radd__ = __add__
    __rmul__ = __mul__


def sparse_cat(tensors: Sequence[SparseTensor], dim: int = 0) -> SparseTensor:
    """Join tensors: along the batch (dim 0, elements are renumbered) or along a feature axis (same voxels).

    Raises:
        ValueError: nothing to join, or different voxels along a feature axis.
    """
    if not tensors:
        raise ValueError("sparse_cat: expected at least one tensor, got none")
    first = tensors[0]
    if dim % first.ndim:
        if any(tensor.lengths != first.lengths for tensor in tensors):
            raise ValueError(
                f"sparse_cat: tensors joined along axis {dim} need the same voxels, "
                f"got {[tensor.lengths for tensor in tensors]} rows"
            )
        return first.replace(torch.cat([tensor.feats for tensor in tensors], dim=dim))
    counts = [count for tensor in tensors for count in tensor.lengths]
    coords = _renumber(torch.cat([tensor.coords for tensor in tensors]), counts)
    feats = torch.cat([tensor.feats for tensor in tensors])
    return object.__new__(SparseTensor)._set(feats, coords, _layout(counts), (), {})


def _layout(counts: Sequence[int]) -> tuple[slice, ...]:
    ends = list(accumulate(counts, initial=0))
    return tuple(slice(start, stop) for start, stop in zip(ends, ends[1:]))


def _renumber(coords: Tensor, counts: Sequence[int]) -> Tensor:
    """Write the batch column anew for elements of these many rows."""
    counts = torch.tensor(counts, dtype=torch.long, device=coords.device)
    elements = torch.arange(len(counts), device=coords.device)
    batch = torch.repeat_interleave(elements, counts, output_size=len(coords))
    return torch.cat([batch[:, None].to(coords.dtype), coords[:, 1:]], dim=1)


def _check_rows(feats: Tensor, coords: Tensor) -> None:
    if coords.ndim != 2 or coords.shape[1] != 4 or coords.dtype not in _INTEGERS:
        raise ValueError(
            "SparseTensor: coords must be (T, 4) integers (batch, x, y, z), "
            f"got {tuple(coords.shape)} {coords.dtype}"
        )
    if feats.ndim < 1 or len(feats) != len(coords):
        raise ValueError(f"SparseTensor: expected {len(coords)} rows of feats, got {tuple(feats.shape)}")
    if feats.device != coords.device:
        raise ValueError(f"SparseTensor: feats are on {feats.device} but coords on {coords.device}")


def _check_coords(coords: Tensor, batch_size: int) -> None:
    """One transfer of the few numbers that decide, whatever the number of rows."""
    if not 0 <= batch_size <= MAX_BATCH_SIZE:
        raise ValueError(f"SparseTensor: batch_size must be in [0, {MAX_BATCH_SIZE}], got {batch_size}")
    if not len(coords):
        return
    batch, xyz = coords[:, 0], coords[:, 1:]
    disorder = (batch[1:] < batch[:-1]).sum()
    numbers = torch.stack([xyz.min(), xyz.max(), batch.min(), batch.max(), disorder])
    low, high, first, last, disorder = numbers.tolist()
    if low < 0 or high >= MAX_RESOLUTION:
        raise ValueError(
            f"SparseTensor: coordinates must be in [0, {MAX_RESOLUTION}), got {low} to {high}; "
            "check the resolution of the grid"
        )
    if disorder:
        raise ValueError(f"SparseTensor: rows must be sorted by batch index, which falls {disorder} times")
    if first < 0 or last >= batch_size:
        raise ValueError(
            f"SparseTensor: batch indices must be in [0, {batch_size}), got {first} to {last}; "
            "check batch_size"
        )
