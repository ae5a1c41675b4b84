"""Groups of rows that attend among themselves: whole batch elements, windows in space, windows along a curve.

A pattern says how rows are grouped; its ``segments`` are the groups of given voxels.  Patterns are hashable,
so that the groups of one set of voxels can be kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Protocol

import torch
from torch import Tensor

from trellis_modules.attention.serialization import SerializeMode, serialize

#: Groups up to this length share a bucket; further buckets hold lengths within a factor of each other.
_SHORTEST_BUCKET = 32
_BUCKET_RATIO = 1.25


@dataclass(frozen=True, eq=False)
class Segments:
    """Rows in groups.

    Attributes:
        lengths: rows of each group, in order; zero is allowed.
        device: of the index tensors.
        rows: (N,) int64, the rows of all groups one after the other; None when they already lie like that.
        restore: (T,) int64, where in that sequence the result of each row is; given with ``rows``.
    """

    lengths: tuple[int, ...]
    device: torch.device
    rows: Tensor | None = None
    restore: Tensor | None = None

    @cached_property
    def max_length(self) -> int:
        """Rows of the largest group."""
        return max(self.lengths, default=0)

    @cached_property
    def num_rows(self) -> int:
        """T: rows that the groups are made of, each counted once."""
        return sum(self.lengths) if self.restore is None else len(self.restore)

    @cached_property
    def uniform(self) -> bool:
        """Whether all groups have the same number of rows."""
        return len(set(self.lengths)) <= 1

    def contexts_of(self, length: int) -> Segments:
        """As many groups of ``length`` rows each, for the contexts that the groups attend to; kept."""
        if length not in self._contexts:
            self._contexts[length] = Segments((length,) * len(self.lengths), self.device)
        return self._contexts[length]

    @cached_property
    def _contexts(self) -> dict[int, Segments]:
        return {}

    @cached_property
    def positions(self) -> Tensor:
        """(N,) int64, the place of every row in groups padded to ``max_length``."""
        lengths = torch.tensor(self.lengths, device=self.device)
        starts = torch.tensor(list(accumulate(self.lengths, initial=0))[:-1], device=self.device)
        shifts = torch.arange(len(lengths), device=self.device) * self.max_length - starts
        total = sum(self.lengths)
        return torch.arange(total, device=self.device) + shifts.repeat_interleave(lengths, output_size=total)

    @cached_property
    def padding_mask(self) -> Tensor:
        """(S, max_length) bool, true at rows; all true for an empty group, where no row reads the result."""
        lengths = torch.tensor([length or self.max_length for length in self.lengths], device=self.device)
        return torch.arange(self.max_length, device=self.device) < lengths[:, None]

    @cached_property
    def offsets(self) -> Tensor:
        """(S + 1,) int32, where each group starts, and the total."""
        return torch.tensor(list(accumulate(self.lengths, initial=0)), dtype=torch.int32, device=self.device)

    @cached_property
    def padded_rows(self) -> Tensor:
        """(S * max_length,) int64, the row at every place of the padded groups; padding repeats a row."""
        starts = self.offsets[:-1, None].long()
        lengths = torch.tensor(self.lengths, device=self.device)[:, None]
        place = torch.arange(self.max_length, device=self.device).minimum((lengths - 1).clamp_min(0))
        # An empty group at the end starts after the last row.
        places = (starts + place).flatten().clamp_max(sum(self.lengths) - 1)
        return places if self.rows is None else self.rows[places]

    @cached_property
    def padded_restore(self) -> Tensor | None:
        """(T,) int64, the place of each row in the padded groups; None when that is its own index."""
        if self.uniform:
            return self.restore
        return self.positions if self.restore is None else self.positions[self.restore]

    @cached_property
    def buckets(self) -> tuple[Segments, ...]:
        """The non-empty groups by similar length, without ``restore``; see ``bucket_restore``.

        Padding a bucket to its largest group wastes little, unlike padding windows that hold one voxel to
        those that hold hundreds.
        """
        if self.uniform:
            return (self,)
        return tuple(
            Segments(lengths, self.device, places if self.rows is None else self.rows[places])
            for lengths, places in self._bucket_places
        )

    @cached_property
    def bucket_restore(self) -> Tensor | None:
        """(T,) int64, the place of each row in all padded buckets in turn; None as in ``padded_restore``."""
        if self.uniform:
            return self.restore
        order = torch.cat([places for _, places in self._bucket_places])
        sizes = [len(bucket.lengths) * bucket.max_length for bucket in self.buckets]
        bases = accumulate(sizes, initial=0)
        padded = torch.empty_like(order)
        padded[order] = torch.cat([base + bucket.positions for base, bucket in zip(bases, self.buckets)])
        return padded if self.restore is None else padded[self.restore]

    @cached_property
    def _bucket_places(self) -> list[tuple[tuple[int, ...], Tensor]]:
        """For each bucket the lengths of its groups, and the places of their rows in group order."""
        members: dict[int, list[Tensor]] = {}
        for places in torch.arange(sum(self.lengths)).split(self.lengths):
            if len(places):
                members.setdefault(_bucket(len(places)), []).append(places)
        return [
            (tuple(map(len, groups)), torch.cat(groups).to(self.device))
            for _, groups in sorted(members.items())
        ]

    @cached_property
    def owner(self) -> Tensor:
        """(T,) int64, the group of each row, for groups whose rows follow each other."""
        groups = torch.arange(len(self.lengths), device=self.device)
        lengths = torch.tensor(self.lengths, device=self.device)
        return groups.repeat_interleave(lengths, output_size=sum(self.lengths))

    def spread(self, values: Tensor) -> Tensor:
        """(S, ...) one value for each group, whose rows follow each other -> (T, ...)."""
        return values.index_select(0, self.owner)

    def gather(self, values: Tensor) -> Tensor:
        """(T, ...) values of the rows -> (N, ...) in group order."""
        return values if self.rows is None else values.index_select(0, self.rows)

    def scatter(self, values: Tensor) -> Tensor:
        """(N, ...) results in group order -> (T, ...) one for every row."""
        return values if self.restore is None else values.index_select(0, self.restore)


def _bucket(length: int) -> int:
    """The step of a ladder that a group belongs to: all short ones, then lengths within a factor of 1.25."""
    return max(0, math.ceil(math.log(length / _SHORTEST_BUCKET, _BUCKET_RATIO)))


class AttentionPattern(Protocol):
    """Which voxels attend to each other."""

    def segments(self, coords: Tensor, lengths: Sequence[int]) -> Segments:
        """The groups of voxels (T, 4), columns (batch, x, y, z), with ``lengths`` rows a batch element."""


@dataclass(frozen=True)
class FullPattern:
    """All voxels of a batch element."""

    def segments(self, coords: Tensor, lengths: Sequence[int]) -> Segments:
        """One group a batch element; see ``AttentionPattern``."""
        return Segments(tuple(lengths), coords.device)


@dataclass(frozen=True)
class WindowPattern:
    """The voxels of a cubic window: those with the same ``floor((xyz + shift) / size)``.

    Source: Swin transformer, arXiv:2103.14030, in three dimensions.
    """

    size: int
    shift: int | tuple[int, int, int] = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"WindowPattern: size must be at least 1, got {self.size}")

    def segments(self, coords: Tensor, lengths: Sequence[int]) -> Segments:
        """One group a non-empty window, in the order (batch, x, y, z); see ``AttentionPattern``."""
        if not len(coords):
            return Segments((), coords.device)
        shift = self.shift if isinstance(self.shift, tuple) else (self.shift,) * 3
        windows = (coords[:, 1:].long() + torch.tensor(shift, device=coords.device)) // self.size
        windows = windows - windows.amin()  # a negative shift must not reach into the element before
        edge = windows.amax() + 1
        keys = coords[:, 0].long()
        for axis in windows.unbind(1):
            keys = keys * edge + axis
        ordered, rows = keys.sort(stable=True)
        _, counts = torch.unique_consecutive(ordered, return_counts=True)
        return Segments(tuple(counts.tolist()), coords.device, rows, rows.argsort())


@dataclass(frozen=True)
class SerializedPattern:
    """Windows of ``size`` consecutive voxels along a space-filling curve.

    The n voxels of a batch element are shared out over ceil(n / size) windows.  A window reads `size` voxels
    centred on its share, around the end if need be, so windows overlap; every voxel takes its result from the
    window that owns it.

    Source: Point Transformer V3, arXiv:2312.10035, sec. 4.
    """

    size: int
    mode: SerializeMode = SerializeMode.Z_ORDER
    shift_sequence: int = 0  # of the windows along the curve
    shift_window: tuple[int, int, int] = (0, 0, 0)  # of the coordinates before they are put in order

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"SerializedPattern: size must be at least 1, got {self.size}")

    def segments(self, coords: Tensor, lengths: Sequence[int]) -> Segments:
        """The windows of one batch element after those of another; see ``AttentionPattern``."""
        shift = torch.tensor(self.shift_window, device=coords.device)
        codes = serialize(coords[:, 1:].long() + shift, self.mode)
        rows, restore, counts = [], [], []
        first = 0
        for element in codes.split(tuple(lengths)):
            if len(element):
                sequence = first + element.argsort()
                place, owner = self._share_out(len(element), coords.device)
                rows.append(sequence[place])
                # Inverse of "the owner of place i of the sequence": row -> its result.
                restore.append(sum(counts) + owner[(sequence - first).argsort()])
                windows = math.ceil(len(element) / self.size)
                counts += [self.size] * windows if windows > 1 else [len(element)]
            first += len(element)
        empty = codes.new_empty(0)
        all_rows, all_restore = torch.cat([empty, *rows]), torch.cat([empty, *restore])
        return Segments(tuple(counts), coords.device, all_rows, all_restore)

    def _share_out(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Windows over ``count`` voxels in curve order.

        Returns:
            The voxel at every place of the windows; for every voxel, the place that owns it.
        """
        windows = math.ceil(count / self.size)
        if windows == 1:
            return torch.arange(count, device=device), torch.arange(count, device=device)
        share = count / windows
        borders = [math.floor(i * share + self.shift_sequence) for i in range(windows + 1)]
        starts = [
            math.floor((i + 0.5) * share + self.shift_sequence - 0.5 * self.size) for i in range(windows)
        ]
        window_starts = torch.tensor(starts, device=device)
        place = (window_starts[:, None] + torch.arange(self.size, device=device)).flatten() % count
        shares = torch.tensor([stop - start for start, stop in pairwise(borders)], device=device)
        owned = torch.arange(borders[0], borders[-1], device=device)
        window = torch.arange(windows, device=device).repeat_interleave(shares, output_size=len(owned))
        owner = torch.empty(count, dtype=torch.long, device=device)
        owner[owned % count] = window * self.size + owned - window_starts[window]
        return place, owner
