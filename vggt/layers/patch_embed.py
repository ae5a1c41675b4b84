"""Image to patch tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_RESIDUAL_WIDTHS = {8: (32, 64, 192), 16: (32, 48, 96, 192)}  # channels after each stride of 2


class PatchEmbed(nn.Module):
    """Project non-overlapping square patches with one strided convolution."""

    def __init__(self, patch_size: int, embed_dim: int, in_channels: int = 3) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)

    def grid_size(self, images: Tensor) -> tuple[int, int]:
        """Return the (rows, columns) of patches in (..., H, W) images.

        Raises:
            ValueError: height or width is not a positive multiple of the patch size.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.patch_size or height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"PatchEmbed: image height and width must be multiples of the patch size {self.patch_size}, "
                f"got {height}x{width}; resize or pad the images"
            )
        return height // self.patch_size, width // self.patch_size

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) images to (B, H/p * W/p, embed_dim) row-major tokens; raises as ``grid_size``."""
        self.grid_size(images)
        return self.proj(images.to(self.proj.weight.dtype)).flatten(2).mT  # (B, P, C)


class ResidualEmbed(PatchEmbed):
    """Patch tokens by a small residual network of strides of 2: four for patches of 16 x 16 pixels.

    A transformer that starts from nothing needs far fewer pictures with it than with one projection of
    pixels.
    Source: the hybrid of ViT, arXiv:2010.11929, sec. 3.1.
    """

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        """Build the network.

        Raises:
            ValueError: another patch size than 8 or 16.
        """
        if patch_size not in _RESIDUAL_WIDTHS:
            raise ValueError(f"ResidualEmbed: expected patch_size 8 or 16, got {patch_size}")
        super().__init__(patch_size, embed_dim)
        widths = _RESIDUAL_WIDTHS[patch_size]
        stem, *stages = widths
        layers = [nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU()]
        for width, wider in zip(widths, stages):
            layers += [_ResidualBlock(width, wider, stride=2), _ResidualBlock(wider, wider)]
        self.body = nn.Sequential(*layers)
        self.proj = nn.Conv2d(widths[-1], embed_dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) images to row-major tokens (B, H/p * W/p, C); raises as ``grid_size``."""
        self.grid_size(images)
        images = images.to(self.proj.weight.dtype, memory_format=torch.channels_last)
        return self.proj(self.body(images)).flatten(2).mT  # (B, P, C)


class _ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut. Source: ResNet-D, arXiv:1812.01187, sec. 4."""

    def __init__(self, width: int, wider: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, wider, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(wider)
        self.conv2 = nn.Conv2d(wider, wider, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(wider)
        self.shortcut = nn.Identity()
        if stride > 1 or width != wider:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride), nn.Conv2d(width, wider, 1, bias=False), nn.BatchNorm2d(wider)
            )
        nn.init.zeros_(self.norm2.weight)  # the block starts as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(h)))
