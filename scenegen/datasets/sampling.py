"""Which samples each batch of a training run holds: functions of step and slot, so that nothing is saved.

A step has ``slots`` batches, which processes and accumulated passes share out. All processes know all
batches of a step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from scenegen.datasets.latest import Latest
from scenegen.datasets.source import batch_number
from trellis_modules.config import ConfigError


class SamplePlan(ABC):
    """Numbers of the samples of each batch."""

    @abstractmethod
    def rows(self, step: int, slot: int, slots: int) -> list[int]:
        """The samples of a batch: 0 <= ``slot`` < ``slots``."""


class EndlessRounds(SamplePlan):
    """Batches of equal size from one endless row of samples: every sample once, in random order, then again.

    No sample is left out at the end of a round. Where samples have loads, those of a step are shared out so
    that its batches weigh about the same.
    """

    def __init__(self, count: int, batch_size: int, seed: int, loads: Sequence[int] | None = None) -> None:
        """Make a plan.

        Args:
            count: samples, at least 1.
            batch_size: samples of a batch.
            seed: of the orders.
            loads: what each sample weighs, for example its voxels; None for all the same.
        """
        self.count, self.batch_size, self.seed, self.loads = count, batch_size, seed, loads
        self._orders: tuple[Latest[np.ndarray], ...] = (Latest(), Latest())  # a step may see two rounds

    def rows(self, step: int, slot: int, slots: int) -> list[int]:
        """See `SamplePlan`."""
        if self.loads is None or slots == 1:
            return self._piece(batch_number(step, slot, slots) * self.batch_size, self.batch_size)
        rows = self._piece(step * slots * self.batch_size, slots * self.batch_size)
        return [rows[place] for place in balanced_groups([self.loads[row] for row in rows], slots)[slot]]

    def _piece(self, first: int, length: int) -> list[int]:
        """A piece of the endless row."""
        rows: list[int] = []
        while len(rows) < length:
            turn, place = divmod(first + len(rows), self.count)
            order = self._orders[turn % 2].get(turn, lambda turn=turn: _order(self.count, self.seed, turn))
            rows += order[place : place + length - len(rows)].tolist()
        return rows


class EqualGroups(SamplePlan):
    """Batches of one sample; all samples of a step are of one group, for example scenes of as many objects.

    In a round, every group gives as many whole steps as it has samples for, and steps of all groups are
    mixed. The samples that are left over differ from round to round.
    """

    def __init__(self, groups: Mapping[int, Sequence[int]], slots: int, seed: int, kind: str) -> None:
        """Make a plan.

        Args:
            groups: samples by what those of a step have in common.
            slots: batches of a step.
            seed: of the orders.
            kind: what the key of a group counts, for the error.

        Raises:
            ConfigError: no group has a sample for every batch of a step.
        """
        self.slots, self.seed = slots, seed
        self.groups = [np.asarray(groups[key]) for key in sorted(groups) if len(groups[key]) >= slots]
        if not self.groups:
            sizes = ", ".join(f"{len(groups[key])} with {key} {kind}" for key in sorted(groups))
            raise ConfigError(
                f"dataset: expected at least {slots} samples with equally many {kind}, one for each batch of "
                f"a step, got {sizes or 'none'}; use fewer processes or a smaller batch_split, or more data"
            )
        self._rounds: Latest[np.ndarray] = Latest()

    @property
    def steps_per_round(self) -> int:
        """Steps in which every group is seen once."""
        return sum(len(group) // self.slots for group in self.groups)

    def rows(self, step: int, slot: int, slots: int) -> list[int]:
        """See `SamplePlan`; ``slots`` is that of the plan."""
        if slots != self.slots:
            raise ValueError(f"EqualGroups: expected {self.slots} batches a step, got {slots}")
        turn, place = divmod(step, self.steps_per_round)
        return [int(self._rounds.get(turn, lambda: self._draw(turn))[place, slot])]

    def _draw(self, turn: int) -> np.ndarray:
        """(steps_per_round, slots) samples."""
        rng = np.random.default_rng([self.seed, turn])
        steps = [
            rng.permutation(group)[: len(group) // self.slots * self.slots].reshape(-1, self.slots)
            for group in self.groups
        ]
        return rng.permutation(np.concatenate(steps))


def balanced_groups(loads: Sequence[int], count: int) -> list[list[int]]:
    """Share places 0, 1, ... out to groups of equal size and about equal load: heavy ones first.

    Args:
        loads: of each place; their number is a multiple of ``count``.
        count: groups.
    """
    size = len(loads) // count
    groups: list[list[int]] = [[] for _ in range(count)]
    totals = [0] * count
    for place in sorted(range(len(loads)), key=lambda place: -loads[place]):
        lightest = min((g for g in range(count) if len(groups[g]) < size), key=lambda g: totals[g])
        groups[lightest].append(place)
        totals[lightest] += loads[place]
    return groups


def _order(count: int, seed: int, turn: int) -> np.ndarray:
    return np.random.default_rng([seed, turn]).permutation(count)
