"""Sets of structures of single assets: their surface voxels, or latents of these.

Source: TRELLIS, arXiv:2412.01506, sec. 3.3; the names of the sets are those of its released training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from safe_files.limits import MAX_GRID
from scenegen.conditioning.image_preparation import IMAGE_SIZE
from scenegen.datasets.asset_samples import AssetSamples, AssetSetConfig, SampleCondition, stacked
from scenegen.datasets.batch import LatentBatch, ShapeBatch
from scenegen.datasets.normalization import Normalization, normalised_latents
from scenegen.datasets.roots import RowFilter, has_status
from scenegen.datasets.sample_files import SampleError, read_latent
from scenegen.datasets.source import SourceOptions
from scenegen.datasets.voxel_files import RESOLUTION, read_voxels
from trellis_modules.config import check_range

PUBLISHED_SS_DECODER = "JeffreyXiang/TRELLIS-image-large/ckpts/ss_dec_conv3d_16l8_fp16"


@dataclass(frozen=True, kw_only=True)
class SparseStructureConfig(AssetSetConfig):
    """Settings of surface voxels; ``resolution``: voxels per side, as in the files."""

    resolution: int = RESOLUTION

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("resolution", self.resolution, 1, MAX_GRID)


@dataclass(frozen=True, kw_only=True)
class StructureLatentConfig(AssetSetConfig):
    """Settings of structure latents.

    Attributes:
        latent_model: folder in ``ss_latents/``.
        normalization: of the channels.
        pretrained_ss_dec: the decoder that shows what latents are; for pictures of samples only.
        ss_dec_path, ss_dec_ckpt: that decoder from a training run instead: its folder, and which weights.
    """

    latent_model: str
    normalization: Normalization | None = None
    pretrained_ss_dec: str = PUBLISHED_SS_DECODER
    ss_dec_path: str | None = None
    ss_dec_ckpt: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImageStructureLatentConfig(StructureLatentConfig):
    """Settings of structure latents with pictures.

    Attributes:
        image_size: pixels per side.
        cond_tokens: folder in ``cond_tokens/`` with tokens of all pictures, which samples then have in place
            of the pictures; None gives pictures.
    """

    image_size: int = IMAGE_SIZE
    cond_tokens: str | None = None


class SparseStructure(AssetSamples[Tensor, ShapeBatch]):
    """Surface voxels: a sample is (1, R, R, R) bool."""

    config: SparseStructureConfig

    def __init__(self, config: SparseStructureConfig, options: SourceOptions) -> None:
        super().__init__(config, options, [RowFilter("voxelized", lambda row: row.voxelized)])

    def read(self, number: int, rng: np.random.Generator) -> Tensor:
        """See `StoredSamples`."""
        asset, side = self.assets[number], self.config.resolution
        try:
            voxels = read_voxels(asset.root / "voxels" / f"{asset.row.sha256}.ply", side)
        except (OSError, ValueError) as error:
            raise SampleError(str(error)) from error
        occupancy = torch.zeros(1, side, side, side, dtype=torch.bool)
        occupancy[0, voxels[:, 0], voxels[:, 1], voxels[:, 2]] = True
        return occupancy

    def collate(self, samples: Sequence[Tensor]) -> ShapeBatch:
        """See `StoredSamples`."""
        return ShapeBatch(torch.stack(list(samples)))


class SparseStructureLatent(AssetSamples[tuple[Tensor, Any], LatentBatch]):
    """Structure latents (C, r, r, r) float32, each with what a flow sees of it."""

    config: StructureLatentConfig

    def __init__(
        self,
        config: StructureLatentConfig,
        options: SourceOptions,
        condition: SampleCondition,
    ) -> None:
        filters = [has_status(f"ss_latent_{config.latent_model}"), *condition.filters]
        super().__init__(config, options, filters)
        self.condition = condition

    def read(self, number: int, rng: np.random.Generator) -> tuple[Tensor, Any]:
        """See `StoredSamples`."""
        asset, config = self.assets[number], self.config
        latent = read_latent(asset.root / "ss_latents" / config.latent_model / f"{asset.row.sha256}.npz")
        return normalised_latents(latent, config.normalization, 0), self.condition.read(asset, rng)

    def collate(self, samples: Sequence[tuple[Tensor, Any]]) -> LatentBatch:
        """See `StoredSamples`."""
        latents, conditions = zip(*samples)
        return LatentBatch(stacked("x_0", latents), **self.condition.fields(conditions))
