"""Patch tokens by a convolutional network that was trained on ImageNet: EfficientNet-Lite0.

Source: EfficientNet, arXiv:1905.11946, table 1, in its "Lite" form without squeeze-and-excitation and with
ReLU6.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vggt.layers.patch_embed import PatchEmbed, ResidualEmbed

_STEM_WIDTH = 32
STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""Expansion, width, blocks, stride and kernel of each."""

_LEVELS = {4: (1, 24), 8: (2, 40), 16: (4, 112), 32: (6, 320)}  # stride -> last stage of it, its width
_NORM = {"eps": 1e-3, "momentum": 0.01}
_TRAINED_SCALE, _TRAINED_OFFSET = (
    255 / 128,
    -127 / 128,
)  # pixels in [0, 1] as the published network takes them


class _SameConv2d(nn.Conv2d):
    """A convolution whose output has the input's size over its stride; an odd border is wider at the end."""

    def __init__(self, width: int, wider: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        border = kernel - stride
        super().__init__(width, wider, kernel, stride, border // 2, groups=groups, bias=False)
        self.is_wider_at_end = border % 2 == 1

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)) if self.is_wider_at_end else x)


def _normed(width: int, wider: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [_SameConv2d(width, wider, kernel, stride, groups), nn.BatchNorm2d(wider, **_NORM)]


class _InvertedBottleneck(nn.Module):
    """Wider, through one filter a channel, and narrow again; beside a shortcut where the sizes stay."""

    def __init__(self, width: int, wider: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        inner = width * expansion
        layers = [*_normed(width, inner, 1), nn.ReLU6()] if expansion > 1 else []
        layers += [
            *_normed(inner, inner, kernel, stride, groups=inner),
            nn.ReLU6(),
            *_normed(inner, wider, 1),
        ]
        self.layers = nn.Sequential(*layers)
        self.is_residual = stride == 1 and width == wider

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.is_residual else self.layers(x)


class EfficientNetLite0(nn.Module):
    """The trunk: images to feature maps of strides 4, 8, 16 and 32.

    Its batch norms keep the statistics that they came with while it is trained: what is in a batch beside a
    picture must not change its tokens, and crops, masks and whole photos have different statistics.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_normed(3, _STEM_WIDTH, 3, 2), nn.ReLU6())
        width, stages = _STEM_WIDTH, []
        for expansion, wider, count, stride, kernel in STAGES:
            blocks = []
            for number in range(count):
                blocks.append(_InvertedBottleneck(width, wider, expansion, 1 if number else stride, kernel))
                width = wider
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Set training mode for all but the batch norms."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """Map (B, 3, H, W) images to {stride: (B, C, H / stride, W / stride)}."""
        x, maps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return {stride: maps[stage] for stride, (stage, _) in _LEVELS.items()}


class _Levels(nn.Module):
    """All scales of `EfficientNetLite0` on the grid of patches of 8 or 16 pixels.

    Coarser maps are brought to the grid of the patches, the quarters of a patch come from the next finer one.
    """

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        if patch_size not in (8, 16):
            raise ValueError(f"EfficientNetEmbed: expected patch_size 8 or 16, got {patch_size}")
        self.patch_size = patch_size
        self.strides = [stride for stride in _LEVELS if 2 * stride >= patch_size]
        self.width = sum(_LEVELS[stride][1] * (4 if stride < patch_size else 1) for stride in self.strides)

    def forward(self, maps: dict[int, Tensor], grid: tuple[int, int]) -> Tensor:
        """Maps by their strides, of pictures with a grid of patches -> (B, width, rows, columns)."""
        found = []
        for stride in self.strides:
            level = maps[stride]
            if stride < self.patch_size:
                level = F.pixel_unshuffle(level, 2)
            elif stride > self.patch_size:
                level = F.interpolate(level, size=grid, mode="nearest")
            found.append(level)
        return torch.cat(found, dim=1)


class EfficientNetEmbed(PatchEmbed):
    """Patch tokens by a linear map from all scales of `EfficientNetLite0`, for patches of 8 or 16 pixels."""

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        """Build the network.

        Raises:
            ValueError: another patch size.
        """
        super().__init__(patch_size, embed_dim)
        self.levels = _Levels(patch_size)
        self.trunk = EfficientNetLite0()
        self.proj = nn.Conv2d(self.levels.width, embed_dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) images to row-major tokens (B, H/p * W/p, C).

        Raises:
            ValueError: height or width is not a positive multiple of 32.
        """
        grid = self.grid_size(images)
        maps = self.trunk(_as_input(images, self.proj))
        return self.proj(self.levels(maps, grid)).flatten(2).mT  # (B, P, C)


class ResidualEfficientNetEmbed(ResidualEmbed):
    """The tokens of a `ResidualEmbed`, to which those of all scales of `EfficientNetLite0` are added.

    The map of what is added starts at zero: an encoder that was trained with a `ResidualEmbed` goes on from
    where it is, and learns to use the features. Source: ControlNet, arXiv:2302.05543, sec. 3.1.
    """

    def __init__(self, patch_size: int, embed_dim: int) -> None:
        """Build the network; raises as its parts."""
        super().__init__(patch_size, embed_dim)
        self.levels = _Levels(patch_size)
        self.trunk = EfficientNetLite0()
        self.trunk_proj = nn.Conv2d(self.levels.width, embed_dim, 1)
        nn.init.zeros_(self.trunk_proj.weight)
        nn.init.zeros_(self.trunk_proj.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) images to row-major tokens (B, H/p * W/p, C); raises as `EfficientNetEmbed`."""
        grid = self.grid_size(images)
        maps = self.trunk(_as_input(images, self.trunk_proj))
        return super().forward(images) + self.trunk_proj(self.levels(maps, grid)).flatten(2).mT


def _as_input(images: Tensor, layer: nn.Conv2d) -> Tensor:
    """Images in the data type of a layer's weights.

    Raises:
        ValueError: height or width is not a multiple of 32.
    """
    if images.shape[-2] % 32 or images.shape[-1] % 32:
        raise ValueError(
            "EfficientNetEmbed: image height and width must be multiples of 32, got "
            f"{images.shape[-2]}x{images.shape[-1]}; resize or pad the images"
        )
    return images.to(layer.weight.dtype, memory_format=torch.channels_last)
