"""Encoder of the structured-latent VAE: image features at voxels to a small latent at each.

Source: TRELLIS, arXiv:2412.01506, sec. 3.2; attribute names are those of its released checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from trellis_modules.models.structured_latent_trunk import StructuredLatentConfig, StructuredLatentTrunk
from trellis_modules.sparse import SparseTensor


class SparsePosterior(NamedTuple):
    """What the encoder knows of the latents of the voxels, each (B, C); z is a sample or the mean."""

    z: SparseTensor
    mean: SparseTensor
    logvar: SparseTensor


@dataclass(frozen=True, kw_only=True)
class SLatEncoderConfig(StructuredLatentConfig):
    """Sizes of an ``SLatEncoder``."""

    in_channels: int  # image features of a voxel


class SLatEncoder(StructuredLatentTrunk):
    """Features of the active voxels to structured latents."""

    def __init__(self, config: SLatEncoderConfig) -> None:
        super().__init__(config, config.in_channels, 2 * config.latent_channels)

    def posterior(
        self,
        x: SparseTensor,
        sample_posterior: bool = True,
        generator: torch.Generator | None = None,
    ) -> SparsePosterior:
        """Encode the features of voxels.

        Args:
            x: (B, in_channels) features of the active voxels, wherever they are: every place has an
                embedding, beyond ``resolution`` too.
            sample_posterior: draw z instead of taking the mean.
            generator: randomness of the draw.

        Raises:
            ValueError: the channels do not fit.
        """
        h = self.project(self.transform(x))
        mean, logvar = (h.replace(feats) for feats in h.feats.chunk(2, dim=-1))
        if not sample_posterior:
            return SparsePosterior(mean, mean, logvar)
        noise = torch.randn(mean.feats.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        z = mean.replace(mean.feats + torch.exp(0.5 * logvar.feats) * noise)
        return SparsePosterior(z, mean, logvar)

    def forward(
        self,
        x: SparseTensor,
        sample_posterior: bool = True,
        generator: torch.Generator | None = None,
    ) -> SparseTensor:
        """The latents (B, latent_channels) of ``posterior``."""
        return self.posterior(x, sample_posterior, generator).z
