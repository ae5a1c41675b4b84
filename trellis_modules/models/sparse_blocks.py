"""Convolutional blocks on sparse tensors.

Source: TRELLIS, arXiv:2412.01506, sec. 3.3; attribute names are those of its released checkpoints.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from trellis_modules.sparse import (
    SparseDownsample,
    SparseGroupNorm32,
    SparseLinear,
    SparseSubdivide,
    SparseTensor,
    SparseUpsample,
)
from trellis_modules.sparse.conv import SparseConv3d
from trellis_modules.transformer import NORM_EPS, LayerNorm32

GROUP_NORM_GROUPS = 32


def _zero(conv: SparseConv3d) -> SparseConv3d:
    """Start a convolution at zero, so that its block starts as its skip connection."""
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv


class SparseResBlock3d(nn.Module):
    """Two convolutions modulated by an embedding, with a skip connection; may change the resolution first."""

    def __init__(
        self,
        channels: int,
        emb_channels: int,
        out_channels: int | None = None,
        downsample: bool = False,
        upsample: bool = False,
    ) -> None:
        """``downsample``, ``upsample``: halve or double the edges at the start of the block."""
        super().__init__()
        out_channels = out_channels or channels
        if downsample and upsample:
            raise ValueError("SparseResBlock3d: choose downsample or upsample, not both")
        self.norm1 = LayerNorm32(channels, eps=NORM_EPS)
        self.norm2 = LayerNorm32(out_channels, eps=NORM_EPS, elementwise_affine=False)
        self.conv1 = SparseConv3d(channels, out_channels, 3)
        self.conv2 = _zero(SparseConv3d(out_channels, out_channels, 3))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, 2 * out_channels))
        self.skip_connection = (
            nn.Identity() if channels == out_channels else SparseLinear(channels, out_channels)
        )
        self.updown = SparseDownsample(2) if downsample else SparseUpsample(2) if upsample else nn.Identity()

    def forward(self, x: SparseTensor, emb: Tensor) -> SparseTensor:
        """(B, channels) voxels and a (B, emb_channels) embedding -> (B, out_channels)."""
        scale, shift = self.emb_layers(emb).chunk(2, dim=-1)
        if isinstance(self.updown, SparseUpsample):  # what it copies is computed once
            h = self.conv1.of_copies(x.apply(self.norm1).apply(F.silu), self.updown)
            skip = self.updown(self.skip_connection(x))
        else:
            x = self.updown(x)
            h = self.conv1(x.apply(self.norm1).apply(F.silu))
            skip = self.skip_connection(x)
        h = h.apply(self.norm2) * (1 + scale) + shift
        return self.conv2(h.apply(F.silu)) + skip


class _SparseSiLU(nn.Module):
    """SiLU on the features of every voxel."""

    def forward(self, x: SparseTensor) -> SparseTensor:
        return x.apply(F.silu)


class SparseSubdivideBlock3d(nn.Module):
    """Split every voxel into eight and refine them by two convolutions, with a skip connection."""

    def __init__(
        self, channels: int, out_channels: int | None = None, num_groups: int = GROUP_NORM_GROUPS
    ) -> None:
        """``num_groups``: of the group norms."""
        super().__init__()
        out_channels = out_channels or channels
        self.act_layers = nn.Sequential(SparseGroupNorm32(num_groups, channels), _SparseSiLU())
        self.sub = SparseSubdivide()
        self.out_layers = nn.Sequential(
            SparseConv3d(channels, out_channels, 3),
            SparseGroupNorm32(num_groups, out_channels),
            _SparseSiLU(),
            _zero(SparseConv3d(out_channels, out_channels, 3)),
        )
        self.skip_connection = (
            nn.Identity() if channels == out_channels else SparseConv3d(channels, out_channels, 1)
        )

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(B, channels) -> (B, out_channels) at twice the resolution."""
        first, *others = self.out_layers
        h = first.of_copies(self.act_layers(x), self.sub)
        for layer in others:
            h = layer(h)
        return h + self.sub(self.skip_connection(x))
