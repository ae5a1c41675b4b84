"""Training samples of scenes, read from shards: what the scene flow sees and what it is to predict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from scenegen.datasets.normalization import Normalization, normalised_latents
from scenegen.datasets.poses import QUATERNION, asset_order, camera_poses, encode_poses
from scenegen.datasets.shards import LATENTS, SCENES, ShardFiles, ShardSample
from scenegen.geometry import identity_pose, world_poses_to_query_poses

Sample = dict[str, Tensor]


@dataclass(frozen=True)
class SceneSampleConfig:
    """Which scenes are read, and how.

    Attributes:
        max_batch_size: scenes with more objects are left out.
        max_gpu_batch_size: objects of a sample: the query and so many others, less one.
        min_aesthetic_score: objects below it, or without a score, are left out; None takes all.
        use_single_asset: also assets alone.
        needs_cond_rendered: objects without views of their own are left out, as in published training.
        pose_encoding: see `scenegen.datasets.poses`.
        centred: poses of the centres of boxes; published training takes the origins of the model files.
        use_mask_cond: whether samples have masks.
        normalization: mean and deviation of each channel of the latents; None leaves them as they are.
        seed: of the orders of objects.
    """

    max_batch_size: int = 16
    max_gpu_batch_size: int = 7
    min_aesthetic_score: float | None = 4.5
    use_single_asset: bool = False
    needs_cond_rendered: bool = True
    pose_encoding: str = QUATERNION
    centred: bool = False
    use_mask_cond: bool = True
    normalization: Normalization | None = None
    seed: int = 0


@dataclass(frozen=True)
class Case:
    """One sample: a scene of a shard, which of its objects are used, and which of these is the query."""

    shard: int
    place: int
    kept: tuple[int, ...]
    query: int


class SceneSamples(Dataset[Sample]):
    """Every object of every scene once as the query.

    An item is a dict for N objects, the query first and the others in an order that seed, epoch and item fix:

    * ``x_0`` (N, 8, 16, 16, 16) float32, latents of the structures;
    * ``cond`` (N, 3, S, S) float32 in [0, 1], cut-outs on black;
    * ``mask_cond`` (N, 3, S, S) float32 in [0, 1], masks of the whole photo;
    * ``scene_image`` (3, S, S) float32 in [0, 1];
    * ``vggt_feature`` (1, P, 2C) float32, the photo's geometry feature;
    * ``positions`` (N, 8), or (N, 7) with angles, float32, the first of them the identity.

    A damaged shard raises an error that names it; no other sample takes the place of one that cannot be read.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        config: SceneSampleConfig = SceneSampleConfig(),
        *,
        for_training: bool = True,
    ) -> None:
        """Open shards of scenes.

        Raises:
            ShardError: a file is missing, damaged, of another kind, or of a test set although something is
                to be learnt; or no sample is left.
            SplitError: a shard has furniture of another split than its set.
        """
        self.files, self.config, self.epoch = ShardFiles(paths, SCENES, for_training), config, 0
        self.left_out: dict[str, int] = {}
        self.cases = [
            Case(shard, place, kept, query)
            for shard, header in enumerate(self.files.headers)
            for place, sample in enumerate(header.samples)
            if (kept := self._kept(sample))
            for query in range(len(kept))
        ]

    def __len__(self) -> int:
        return len(self.cases)

    def num_objects(self) -> list[int]:
        """Objects of the scene of each item, by which samplers group them."""
        return [len(case.kept) for case in self.cases]

    def set_epoch(self, epoch: int) -> None:
        """Choose other orders of the objects for the next round."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> Sample:
        seed = hash((self.config.seed, self.epoch, index)) % 2**63
        return self.sample(index, torch.Generator().manual_seed(seed))

    def sample(self, index: int, generator: torch.Generator) -> Sample:
        """The item of an index with the order of its objects from a generator.

        Raises:
            ShardError: its shard is damaged.
        """
        case = self.cases[index]
        chosen = asset_order(len(case.kept), case.query, self.config.max_gpu_batch_size, generator)
        rows = torch.tensor([case.kept[number] for number in chosen])

        def stored(name: str) -> Tensor:
            return self.files.tensor(case.shard, f"{case.place}.{name}")

        sample = {
            "x_0": normalised_latents(stored("x_0")[rows], self.config.normalization, 1),
            "cond": stored("cond")[rows].float().div_(255),
            "scene_image": stored("scene_image").float().div_(255),
            "vggt_feature": stored("vggt_feature").float(),
            "positions": self._positions(case, stored, rows).float(),
        }
        if self.config.use_mask_cond:
            masks = stored("mask_cond")[rows].float().div_(255)  # (N, S, S)
            sample["mask_cond"] = masks[:, None].expand(-1, 3, -1, -1)
        return sample

    def _kept(self, sample: ShardSample) -> tuple[int, ...]:
        """The objects of a scene that are used; none where the scene is left out."""
        config = self.config
        if not sample.is_scene and not config.use_single_asset:
            return ()
        kept = []
        for number, (score, rendered) in enumerate(zip(sample.aesthetic_score, sample.cond_rendered)):
            if config.min_aesthetic_score is not None and not (score or 0) >= config.min_aesthetic_score:
                self._leave_out("aesthetic score")
            elif config.needs_cond_rendered and not rendered:
                self._leave_out("no views")
            else:
                kept.append(number)
        if len(kept) > config.max_batch_size:
            self._leave_out("too many objects", len(kept))
            return ()
        if config.centred and sample.is_scene and not sample.has_center:
            self._leave_out("no centre", len(kept))
            return ()
        return tuple(kept)

    def _leave_out(self, reason: str, count: int = 1) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + count

    def _positions(self, case: Case, stored: Callable[[str], Tensor], rows: Tensor) -> Tensor:
        if not self.files.headers[case.shard].samples[case.place].is_scene:
            return encode_poses(identity_pose(1, dtype=torch.float64), self.config.pose_encoding)
        translation, rotation, scale, center = (
            stored(name)[rows].numpy() for name in ("translation", "rotation", "scale", "center")
        )
        poses = camera_poses(translation, rotation, scale, center if self.config.centred else None)
        return encode_poses(world_poses_to_query_poses(poses), self.config.pose_encoding)


class LatentSamples(Dataset[Sample]):
    """Structure latents alone: an item is ``{"x_0": (8, 16, 16, 16) float32}``."""

    def __init__(
        self,
        paths: Sequence[Path],
        min_aesthetic_score: float | None = 5.0,
        normalization: Normalization | None = None,
    ) -> None:
        """Open shards of latents; errors as for `SceneSamples`."""
        self.files, self.normalization = ShardFiles(paths, LATENTS, for_training=True), normalization
        self.places = [
            (shard, place)
            for shard, header in enumerate(self.files.headers)
            for place, sample in enumerate(header.samples)
            if min_aesthetic_score is None or (sample.aesthetic_score[0] or 0) >= min_aesthetic_score
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        shard, place = self.places[index]
        return {"x_0": normalised_latents(self.files.row(shard, "x_0", place), self.normalization, 0)}
