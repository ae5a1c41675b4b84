"""Sets of structured latents of single assets: latents at surface voxels.

Source: TRELLIS, arXiv:2412.01506, sec. 3.3; the names of the sets are those of its released training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scenegen.conditioning.image_preparation import IMAGE_SIZE
from scenegen.datasets.asset_samples import AssetSamples, AssetSetConfig, SampleCondition
from scenegen.datasets.batch import SparseLatentBatch
from scenegen.datasets.metadata import AssetRow
from scenegen.datasets.normalization import Normalization, normalised_latents
from scenegen.datasets.roots import RowFilter, has_status
from scenegen.datasets.sample_files import read_sparse
from scenegen.datasets.source import SourceOptions
from trellis_modules.config import check_range

MAX_NUM_VOXELS = 32768
PUBLISHED_SLAT_DECODER = "JeffreyXiang/TRELLIS-image-large/ckpts/slat_dec_gs_swin8_B_64l8gs32_fp16"


@dataclass(frozen=True, kw_only=True)
class SLatConfig(AssetSetConfig):
    """Settings of structured latents.

    Attributes:
        latent_model: folder in ``latents/``.
        max_num_voxels: assets with more are left out.
        normalization: of the channels.
        pretrained_slat_dec: the decoder that shows what latents are; for pictures of samples only.
        slat_dec_path, slat_dec_ckpt: that decoder from a training run instead: its folder, and which weights.
    """

    latent_model: str
    max_num_voxels: int = MAX_NUM_VOXELS
    normalization: Normalization | None = None
    pretrained_slat_dec: str = PUBLISHED_SLAT_DECODER
    slat_dec_path: str | None = None
    slat_dec_ckpt: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("max_num_voxels", self.max_num_voxels, 1)


@dataclass(frozen=True, kw_only=True)
class ImageSLatConfig(SLatConfig):
    """Settings of structured latents with pictures.

    Attributes:
        image_size: pixels per side.
        cond_tokens: folder in ``cond_tokens/`` with tokens of all pictures, which samples then have in place
            of the pictures; None gives pictures.
    """

    image_size: int = IMAGE_SIZE
    cond_tokens: str | None = None


@dataclass(frozen=True)
class SparseSample:
    """Values at the voxels of an asset, and what a flow sees of it."""

    coords: Tensor  # (T, 3) int32
    feats: Tensor  # (T, C) float32
    condition: Any = None


class SLat(AssetSamples[SparseSample, SparseLatentBatch]):
    """Structured latents, each with what a flow sees of it; heavy and light ones are mixed in a step."""

    config: SLatConfig

    def __init__(self, config: SLatConfig, options: SourceOptions, condition: SampleCondition) -> None:
        filters = [has_status(f"latent_{config.latent_model}"), has_few_voxels(config.max_num_voxels)]
        super().__init__(config, options, [*filters, *condition.filters])
        self.condition = condition
        self.loads = [asset.row.num_voxels for asset in self.assets]

    def read(self, number: int, rng: np.random.Generator) -> SparseSample:
        """See `StoredSamples`."""
        asset, config = self.assets[number], self.config
        path = asset.root / "latents" / config.latent_model / f"{asset.row.sha256}.npz"
        feats, coords = read_sparse(path, "feats", "coords")
        feats = normalised_latents(feats, config.normalization, 1)
        return SparseSample(coords, feats, self.condition.read(asset, rng))

    def collate(self, samples: Sequence[SparseSample]) -> SparseLatentBatch:
        """See `StoredSamples`."""
        coords, feats = joined(samples)
        conditions = [sample.condition for sample in samples]
        return SparseLatentBatch(coords, feats, **self.condition.fields(conditions))


def has_few_voxels(limit: int) -> RowFilter[AssetRow]:
    """Assets with at most so many voxels."""
    return RowFilter(f"with num_voxels <= {limit}", lambda row: row.num_voxels <= limit)


def joined(samples: Sequence[SparseSample]) -> tuple[Tensor, Tensor]:
    """Voxels (T, 4) int32 with the number of the sample in front, and values (T, C), of all samples."""
    coords = [
        torch.nn.functional.pad(sample.coords, (1, 0), value=number) for number, sample in enumerate(samples)
    ]
    return torch.cat(coords), torch.cat([sample.feats for sample in samples])
