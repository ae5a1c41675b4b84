"""Pictures of objects with their structured latents, made once, where making them takes longest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from safe_files.json_reader import parse_json
from safe_files.weights import open_weights
from scenegen.conditioning.scene_light import LIGHT_TONES
from scenegen.datasets.source import batch_number
from scenegen.synthesis.furniture.split import check_split
from scenegen.synthesis.sources.batch import LatentPictureBatch
from trellis_modules.checkpoint import write_state
from trellis_modules.config import MAX_SEED, check_range
from trellis_modules.files import atomic_write
from trellis_modules.ragged import expand

_IDS = "model_ids"
_NAMES = ("images", "lengths", "xyz", "latents", "projections", "light")


@dataclass(frozen=True)
class PictureSet:
    """N pictures, the voxels of one object after those of another.

    Attributes:
        images: (N, 3, I, I) uint8.
        lengths: (N,) int64, voxels of each object.
        xyz: (sum, 3) uint8.
        latents: (sum, C) float16.
        projections: (N, 3, 4) float32, see `appearance_batches.crop_projections`.
        light: (N, L) float32, see `scene_light.light_tones`.
        model_ids: the models of which pictures were made, sorted; all of the train split or procedural.
    """

    images: Tensor
    lengths: Tensor
    xyz: Tensor
    latents: Tensor
    projections: Tensor
    light: Tensor
    model_ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def of_batch(cls, batch: LatentPictureBatch, max_voxels: int) -> PictureSet:
        """The objects of a batch with at most so many voxels."""
        owner = batch.coords[:, 0].long()
        lengths = torch.bincount(owner, minlength=len(batch.asset_image))
        fits = lengths <= max_voxels
        kept = fits[owner]
        return cls(
            (batch.asset_image[fits] * 255).round().byte().cpu(),
            lengths[fits].cpu(),
            batch.coords[kept, 1:].byte().cpu(),
            batch.x_0[kept].half().cpu(),
            batch.crop_projection[fits].cpu(),
            batch.light[fits].cpu(),
        )

    @classmethod
    def concatenate(cls, sets: Sequence[PictureSet]) -> PictureSet:
        """All pictures of several sets."""
        ids = sorted({model_id for part in sets for model_id in part.model_ids})
        return cls(*(torch.cat([getattr(part, name) for part in sets]) for name in _NAMES), tuple(ids))

    def of_models(self, model_ids: Iterable[str]) -> PictureSet:
        """The same pictures, with the ids of the models of which they were made."""
        return replace(self, model_ids=tuple(sorted(set(model_ids))))

    def _check(self) -> None:
        """Refuse tensors that do not belong together."""
        count, rows = len(self.images), len(self.xyz)
        side = self.images.shape[-1]
        fits = self.images.shape == (count, 3, side, side) and self.lengths.shape == (count,)
        fits = fits and self.xyz.shape == (rows, 3) and self.projections.shape == (count, 3, 4)
        fits = fits and self.latents.ndim == 2 and len(self.latents) == rows
        fits = fits and self.light.shape == (count, LIGHT_TONES)
        if not fits or int(self.lengths.sum()) != rows or (count and int(self.lengths.min()) < 0):
            raise ValueError(f"its tensors do not belong together, {count} images and {rows} voxels")

    def save(self, path: Path) -> None:
        """Write a safetensors file that appears whole.

        Raises:
            SplitError: a model is not of the train split.
            ValueError: no model is named.
        """
        if not self.model_ids:
            raise ValueError(
                f"{path}: expected the models that the pictures are of; see PictureSet.of_models"
            )
        check_split(self.model_ids, "train")
        tensors = {name: getattr(self, name).contiguous() for name in _NAMES}
        with atomic_write(path) as temporary:
            write_state(tensors, temporary, {_IDS: json.dumps(self.model_ids)})

    @classmethod
    def load(cls, path: Path) -> PictureSet:
        """Read a file of `save`, to learn from it.

        Raises:
            ValueError: it is no picture set, cannot be read, or does not name its models, as older files do.
            SplitError: a model is not of the train split.
        """
        try:
            with open_weights(path, "pt") as file:
                ids = tuple(parse_json((file.metadata() or {})[_IDS]))
                pictures = cls(*(file.get_tensor(name) for name in _NAMES), ids)
            pictures._check()
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: expected a file of dataset_toolkits.build_picture_set ({error}); make it again"
            ) from error
        check_split(pictures.model_ids, "train")
        return pictures


@dataclass(frozen=True)
class PictureSetConfig:
    """Which stored pictures batches are made of."""

    files: tuple[str, ...]  # of `PictureSet.save`
    objects_per_step: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("objects_per_step", self.objects_per_step, 1)
        check_range("seed", self.seed, 0, MAX_SEED)


class PictureSetSource:
    """Batches like those of ``LatentPictureSource`` from a picture set, in a new order every time round."""

    def __init__(self, pictures: PictureSet, config: PictureSetConfig, device: torch.device) -> None:
        """Make a source.

        Raises:
            ValueError: there are fewer pictures than a batch holds.
        """
        if len(pictures) < config.objects_per_step:
            raise ValueError(
                f"picture_set: expected at least {config.objects_per_step} pictures, the size of a batch, "
                f"got {len(pictures)}; make more"
            )
        self.pictures, self.config, self.device = pictures, config, device
        self._first = pictures.lengths.cumsum(0) - pictures.lengths

    @classmethod
    def load(cls, config: PictureSetConfig, device: torch.device) -> PictureSetSource:
        """Read the files of a configuration.

        Raises:
            ValueError: a file is no picture set or cannot be read, or there are too few pictures.
        """
        if not config.files:
            raise ValueError("picture_set: files: expected at least one, got none")
        sets = [PictureSet.load(Path(name)) for name in config.files]
        return cls(PictureSet.concatenate(sets), config, device)

    def batch(self, step: int, slot: int = 0, slots: int = 1) -> LatentPictureBatch:
        """The pictures of a slot; those left over at the end of a round are left out."""
        pictures, count = self.pictures, self.config.objects_per_step
        turn, place = divmod(batch_number(step, slot, slots), len(pictures) // count)
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + turn)
        rows = torch.randperm(len(pictures), generator=generator)[place * count : (place + 1) * count]
        owner, running = expand(pictures.lengths[rows])
        voxels = self._first[rows][owner] + running
        batch = LatentPictureBatch(
            asset_image=pictures.images[rows].float() / 255,
            coords=torch.cat([owner[:, None].int(), pictures.xyz[voxels].int()], dim=1),
            x_0=pictures.latents[voxels].float(),
            crop_projection=pictures.projections[rows],
            light=pictures.light[rows],
        )
        return batch.to(self.device)
