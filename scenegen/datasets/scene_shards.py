"""The set of scenes from shards: one file for many scenes, whose pictures are prepared already."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from scenegen.datasets.batch import SceneCaseBatch
from scenegen.datasets.furniture_ids import TRAIN
from scenegen.datasets.roots import batch_size, check_not_empty, is_of_part, root_folders
from scenegen.datasets.sample_files import SampleError
from scenegen.datasets.scene_samples import SceneSampleConfig, SceneSamples
from scenegen.datasets.shards import SCENES, ShardError, ShardSample, shard_paths
from scenegen.datasets.source import SourceOptions
from scenegen.datasets.stored import StoredSamples
from trellis_modules.config import check_range


@dataclass(frozen=True)
class SceneShardConfig(SceneSampleConfig):
    """What of shards is read, and how.

    Attributes:
        folder: of the shards below each data root.
        set: name of the set of photos.
        validation_share: of the scenes, that is held out and never learnt from.
        max_bad_samples: more scenes that cannot be read end the run.
    """

    folder: str = "shards"
    set: str = TRAIN
    validation_share: float = 0.0
    max_bad_samples: int = 100

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_gpu_batch_size"):
            check_range(name, getattr(self, name), 1)
        check_range("validation_share", self.validation_share, 0, 1)
        check_range("max_bad_samples", self.max_bad_samples, 0)


class ShardCases(StoredSamples[SceneCaseBatch, SceneCaseBatch]):
    """Every object of every scene of shards once as the query; see `scenegen.datasets.scene_set.SceneCases`.

    Attributes:
        groups: numbers of the cases with as many objects in a sample, by how many these are.
    """

    def __init__(self, config: SceneShardConfig, options: SourceOptions) -> None:
        """Open the shards of the data roots.

        Raises:
            ConfigError: no scene is left.
            ShardError: there is no shard, or one is damaged or of a test set.
            SplitError: a shard has furniture of another split than its set.
        """
        self._limit = config.max_gpu_batch_size
        bounded = replace(config, max_batch_size=min(config.max_batch_size, batch_size(options)))
        self._shards: list[Path] = []
        for root in root_folders(options):
            found = shard_paths(root / config.folder, SCENES, config.set)
            if not found:
                raise ShardError(
                    f"{root / config.folder}: expected shards of scenes of the set {config.set}, found none; "
                    "run pack_scenes.py"
                )
            self._shards += found
        self._samples = SceneSamples(self._shards, bounded, for_training=not options.validation)
        part = is_of_part(options.validation, config.validation_share, lambda sample: sample.id)
        self._numbers = [n for n in range(len(self._samples)) if all(f.keeps(self._scene(n)) for f in part)]
        self.counts = (self._count_line(),)
        check_not_empty(len(self._numbers), self.counts)
        groups = defaultdict(list)
        for place in range(len(self._numbers)):
            groups[self._size(place)].append(place)
        self.groups: Mapping[int, Sequence[int]] = dict(groups)

    def __len__(self) -> int:
        return len(self._numbers)

    def alike(self, number: int) -> Sequence[int]:
        """The cases whose samples have as many objects."""
        return self.groups[self._size(number)]

    def name_of(self, number: int) -> str:
        """See `StoredSamples`; the cases of a scene share its name."""
        case = self._samples.cases[self._numbers[number]]
        return f"{self._shards[case.shard]}: scene {self._scene(self._numbers[number]).id}"

    def read(self, number: int, rng: np.random.Generator) -> SceneCaseBatch:
        """See `StoredSamples`."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        try:
            return SceneCaseBatch(**self._samples.sample(self._numbers[number], generator))
        except ShardError as error:
            raise SampleError(str(error)) from error

    def collate(self, samples: Sequence[SceneCaseBatch]) -> SceneCaseBatch:
        """The one sample of a batch."""
        (sample,) = samples
        return sample

    def _scene(self, number: int) -> ShardSample:
        case = self._samples.cases[number]
        return self._samples.files.headers[case.shard].samples[case.place]

    def _size(self, place: int) -> int:
        return min(len(self._samples.cases[self._numbers[place]].kept), self._limit)

    def _count_line(self) -> str:
        left_out = [f"{count} left out: {reason}" for reason, count in self._samples.left_out.items()]
        total = sum(len(header.samples) for header in self._samples.files.headers)
        return ", ".join([f"{len(self._shards)} shards: {total} scenes", *left_out])
