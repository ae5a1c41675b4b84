"""Sparse-structure VAE: a dense occupancy grid to and from a small latent volume.

Source: TRELLIS, arXiv:2412.01506, sec. 3.3; attribute names are those of its released checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from trellis_modules.models.patches import unpatchify
from trellis_modules.models.torso import TorsoModule
from trellis_modules.transformer import ChannelLayerNorm32, GroupNorm32

NormType = Literal["layer", "group"]


def _norm(norm_type: NormType, channels: int) -> nn.Module:
    if norm_type == "layer":
        return ChannelLayerNorm32(channels)
    if norm_type == "group":
        return GroupNorm32(32, channels)
    raise ValueError(f"norm_type must be 'layer' or 'group', got {norm_type!r}")


class ResBlock3d(nn.Module):
    """Two normalised 3x3x3 convolutions with a skip connection; the identity at initialisation."""

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        out_channels = out_channels or channels
        self.norm1 = ChannelLayerNorm32(channels)
        self.norm2 = ChannelLayerNorm32(out_channels)
        self.conv1 = nn.Conv3d(channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        self.skip_connection = (
            nn.Identity() if channels == out_channels else nn.Conv3d(channels, out_channels, 1)
        )
        self.act = nn.SiLU()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, out_channels, X, Y, Z)."""
        h = self.conv1(self.act(self.norm1(x)))
        h = self.conv2(self.act(self.norm2(h)))
        return h + self.skip_connection(x)


class Downsample3d(nn.Module):
    """Halve each edge with a strided convolution."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, out_channels, X/2, Y/2, Z/2)."""
        return self.conv(x)


class Upsample3d(nn.Module):
    """Double each edge with a convolution and a pixel shuffle."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels * 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, out_channels, 2X, 2Y, 2Z)."""
        return unpatchify(self.conv(x), 2)


def _level_blocks(
    channels: Sequence[int],
    num_res_blocks: int,
    resample: type[Downsample3d] | type[Upsample3d],
) -> nn.ModuleList:
    """``num_res_blocks`` residual blocks per level, a resampling block between levels."""
    blocks = nn.ModuleList()
    for level, width in enumerate(channels):
        blocks.extend(ResBlock3d(width) for _ in range(num_res_blocks))
        if level + 1 < len(channels):
            blocks.append(resample(width, channels[level + 1]))
    return blocks


def _check_levels(where: str, channels: Sequence[int]) -> int:
    """The factor between the edges of the finest and the coarsest level."""
    if not channels:
        raise ValueError(f"{where}: channels must name at least one level, got none")
    return 2 ** (len(channels) - 1)


def _check_volume(where: str, x: Tensor, channels: int, divisor: int) -> None:
    if x.ndim != 5 or x.shape[1] != channels or any(n % divisor for n in x.shape[2:]):
        raise ValueError(
            f"{where}: expected (B, {channels}, X, Y, Z) with edges divisible by {divisor}, "
            f"got {tuple(x.shape)}"
        )


class Posterior(NamedTuple):
    """What the encoder knows of a latent, each (B, C, x, y, z); z is a sample or the mean."""

    z: Tensor
    mean: Tensor
    logvar: Tensor


class SparseStructureEncoder(TorsoModule):
    """Occupancy grid to latent volume; every level after the first halves the edges."""

    def __init__(
        self,
        in_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: tuple[int, ...],
        num_res_blocks_middle: int = 2,
        norm_type: NormType = "layer",
        use_fp16: bool = False,
    ) -> None:
        """``channels``: widths from fine to coarse; ``norm_type``: norm before the output convolution."""
        super().__init__()
        self.in_channels = in_channels
        self.downsampling = _check_levels("SparseStructureEncoder", channels)
        self.input_layer = nn.Conv3d(in_channels, channels[0], 3, padding=1)
        self.blocks = _level_blocks(channels, num_res_blocks, Downsample3d)
        self.middle_block = nn.Sequential(*(ResBlock3d(channels[-1]) for _ in range(num_res_blocks_middle)))
        self.out_layer = nn.Sequential(
            _norm(norm_type, channels[-1]),
            nn.SiLU(),
            nn.Conv3d(channels[-1], 2 * latent_channels, 3, padding=1),
        )
        if use_fp16:
            self.convert_torso(torch.float16)

    def torso(self) -> Iterator[nn.Module]:
        """Everything between the input and output layers."""
        yield from (self.blocks, self.middle_block)

    def posterior(
        self,
        x: Tensor,
        sample_posterior: bool = False,
        generator: torch.Generator | None = None,
    ) -> Posterior:
        """Encode a grid.

        Args:
            x: (B, in_channels, X, Y, Z) occupancy in [0, 1], indexed [x, y, z].
            sample_posterior: draw z instead of taking the mean.
            generator: randomness of the draw.

        Raises:
            ValueError: the shape does not fit the levels.
        """
        _check_volume("SparseStructureEncoder", x, self.in_channels, self.downsampling)
        h = self.input_layer(x).to(self.torso_dtype)
        for block in self.blocks:
            h = block(h)
        h = self.middle_block(h).to(x.dtype)
        mean, logvar = self.out_layer(h).chunk(2, dim=1)
        if not sample_posterior:
            return Posterior(mean, mean, logvar)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
        return Posterior(mean + torch.exp(0.5 * logvar) * noise, mean, logvar)

    def forward(
        self,
        x: Tensor,
        sample_posterior: bool = False,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The latent (B, latent_channels, X/d, Y/d, Z/d) of ``posterior``."""
        return self.posterior(x, sample_posterior, generator).z


class SparseStructureDecoder(TorsoModule):
    """Latent volume to occupancy logits; every level after the first doubles the edges."""

    def __init__(
        self,
        out_channels: int,
        latent_channels: int,
        num_res_blocks: int,
        channels: tuple[int, ...],
        num_res_blocks_middle: int = 2,
        norm_type: NormType = "layer",
        use_fp16: bool = False,
    ) -> None:
        """``channels``: widths from coarse to fine; ``norm_type``: norm before the output convolution."""
        super().__init__()
        self.latent_channels = latent_channels
        self.upsampling = _check_levels("SparseStructureDecoder", channels)
        self.input_layer = nn.Conv3d(latent_channels, channels[0], 3, padding=1)
        self.middle_block = nn.Sequential(*(ResBlock3d(channels[0]) for _ in range(num_res_blocks_middle)))
        self.blocks = _level_blocks(channels, num_res_blocks, Upsample3d)
        self.out_layer = nn.Sequential(
            _norm(norm_type, channels[-1]), nn.SiLU(), nn.Conv3d(channels[-1], out_channels, 3, padding=1)
        )
        if use_fp16:
            self.convert_torso(torch.float16)

    def torso(self) -> Iterator[nn.Module]:
        """Everything between the input and output layers."""
        yield from (self.blocks, self.middle_block)

    def forward(self, z: Tensor) -> Tensor:
        """Decode a latent.

        Args:
            z: (B, latent_channels, x, y, z).

        Returns:
            (B, out_channels, u x, u y, u z) logits, u = ``upsampling``; a voxel is occupied where logit > 0.

        Raises:
            ValueError: z has another shape.
        """
        _check_volume("SparseStructureDecoder", z, self.latent_channels, 1)
        h = self.middle_block(self.input_layer(z).to(self.torso_dtype))
        for block in self.blocks:
            h = block(h)
        return self.out_layer(h.to(z.dtype))
