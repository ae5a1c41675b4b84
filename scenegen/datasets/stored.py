"""Training batches from stored samples: what a data set of data roots is, and the source that reads it.

A sample that cannot be read is named once, and another of the same kind takes its place; beyond a limit of
such samples the run ends.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from scenegen.datasets.batch import Batch
from scenegen.datasets.latest import Latest
from scenegen.datasets.read_ahead import ReadAhead
from scenegen.datasets.sample_files import SampleError
from scenegen.datasets.sampling import SamplePlan
from scenegen.datasets.source import SourceOptions, batch_number

logger = logging.getLogger(__name__)

S = TypeVar("S")
B = TypeVar("B", bound=Batch)

_BATCHES_AHEAD = 2  # of each worker: a batch of pictures has some 50 MB


class StoredSamples(ABC, Generic[S, B]):
    """Samples of data roots by number.

    Attributes:
        counts: one line for each root: how many rows there are, and how many are left after each filter.
    """

    counts: tuple[str, ...]

    @abstractmethod
    def __len__(self) -> int:
        """Samples."""

    def alike(self, number: int) -> Sequence[int]:
        """The samples that may take the place of one: those that fit into a batch as it does, itself too."""
        return range(len(self))

    @abstractmethod
    def name_of(self, number: int) -> str:
        """What messages call a sample."""

    @abstractmethod
    def read(self, number: int, rng: np.random.Generator) -> S:
        """Read a sample.

        Args:
            number: which one.
            rng: of what is drawn anew each time: a view, a caption, an order.

        Raises:
            SampleError: a file of it is missing or damaged.
        """

    @abstractmethod
    def collate(self, samples: Sequence[S]) -> B:
        """A batch of samples."""

    def __str__(self) -> str:
        return "\n".join((f"{len(self)} samples", *self.counts))


@dataclass(frozen=True)
class ReadBatch(Generic[B]):
    """A batch, and what could not be read for it.

    Attributes:
        batch: None where there is none.
        bad: reasons by the name of the sample.
        error: why there is no batch.
    """

    batch: B | None
    bad: dict[str, str]
    error: str = ""

    def pin_memory(self) -> ReadBatch[B]:
        """The same in memory that a GPU copies from without waiting; a loader of batches calls it."""
        pinned = None if self.batch is None else self.batch.map(lambda value: value.contiguous().pin_memory())
        return replace(self, batch=pinned)


class SlotReader(Dataset[ReadBatch[B]]):
    """Item n: the n-th batch of a run, see `batch_number`; the same in every process."""

    def __init__(self, samples: StoredSamples[Any, B], plan: SamplePlan, slots: int, seed: int) -> None:
        self.samples, self.plan, self.slots, self.seed = samples, plan, slots, seed

    def __getitem__(self, number: int) -> ReadBatch[B]:
        step, slot = divmod(number, self.slots)
        rng = np.random.default_rng([self.seed, number])
        bad: dict[str, str] = {}
        read = []
        for row in self.plan.rows(step, slot, self.slots):
            sample = self._read(row, rng, bad)
            if sample is None:
                last = next(reversed(bad.values()))
                error = f"no other sample can take the place of the bad ones; the last: {last}"
                return ReadBatch(None, bad, error)
            read.append(sample)
        try:
            return ReadBatch(self.samples.collate(read), bad)
        except SampleError as error:
            return ReadBatch(None, bad, str(error))

    def _read(self, row: int, rng: np.random.Generator, bad: dict[str, str]) -> Any:
        """A sample, or one that is alike; None where there is none."""
        alike = None
        while True:
            try:
                return self.samples.read(row, rng)
            except SampleError as error:
                bad[self.samples.name_of(row)] = str(error)
            if alike is None:
                alike = iter(rng.permutation(np.asarray(self.samples.alike(row))).tolist())
            row = next((other for other in alike if self.samples.name_of(other) not in bad), None)
            if row is None:
                return None


class StoredSource(Generic[B]):
    """Batches of stored samples; worker processes read ahead.

    Attributes:
        samples: what the batches are made of.
        bad: reasons by name of the samples that could not be read, so far, in this process.
    """

    def __init__(
        self,
        samples: StoredSamples[Any, B],
        plan: SamplePlan,
        options: SourceOptions,
        seed: int = 0,
        max_bad_samples: int = 0,
    ) -> None:
        """Make a source.

        Args:
            samples: at least one.
            plan: which of them each batch holds.
            options: device and workers.
            seed: of what samples draw.
            max_bad_samples: more of them end the run.
        """
        self.samples, self.plan, self.options = samples, plan, options
        self.seed, self.max_bad_samples = seed, max_bad_samples
        self.bad: dict[str, str] = {}
        self._readers: Latest[ReadAhead[ReadBatch[B]]] = Latest()

    def batch(self, step: int, slot: int = 0, slots: int = 1) -> B:
        """See `BatchSource`.

        Raises:
            SampleError: more samples than the limit cannot be read, or no other takes the place of one.
        """
        read = self._readers.get(slots, lambda: self._reader(slots)).get(batch_number(step, slot, slots))
        self._note(read)
        return read.batch.to(self.options.device).map(_in_full)  # files have half of the numbers' bits

    def __str__(self) -> str:
        return str(self.samples)

    def _reader(self, slots: int) -> ReadAhead[ReadBatch[B]]:
        items = SlotReader(self.samples, self.plan, slots, self.seed)
        pinned = self.options.device.type == "cuda" and torch.cuda.is_available()
        return ReadAhead(items, self.options.workers, ahead=_BATCHES_AHEAD, pinned=pinned)

    def _note(self, read: ReadBatch[B]) -> None:
        """Name what could not be read, once, and end the run where there is too much of it."""
        for name, reason in read.bad.items():
            if name not in self.bad:
                logger.warning("another sample takes the place of %s: %s", name, reason)
        self.bad |= read.bad
        if read.batch is None:
            raise SampleError(read.error)
        if len(self.bad) > self.max_bad_samples:
            raise SampleError(
                f"expected at most {self.max_bad_samples} samples that cannot be read (dataset: "
                f"max_bad_samples), got {len(self.bad)}; the last: {next(reversed(self.bad.values()))}"
            )


def _in_full(value: Tensor) -> Tensor:
    return value.float() if value.dtype == torch.float16 else value
