"""Dense prediction from patch tokens of four depths.

Source: DPT, arXiv:2103.13413; VGGT, arXiv:2503.11651, sec. 3.3. Attribute names are the released weights'
keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vggt.heads.head_activations import activate_head, check_activations
from vggt.heads.position_embedding import image_plane_embedding

POSITION_GAIN = 0.1


class ResidualConvUnit(nn.Module):
    """Two convolutions on the rectified input; the residual is the rectified input as well."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, channels, H, W) to the same shape."""
        # Released weights were trained with a ReLU that overwrote its input before the sum.
        rectified = F.relu(x)
        return self.conv2(F.relu(self.conv1(rectified))) + rectified


class FeatureFusionBlock(nn.Module):
    """Add a finer level to a coarser one, refine and upsample."""

    def __init__(self, channels: int, has_lateral: bool = True) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(channels, channels, 1)
        if has_lateral:
            self.resConfUnit1 = ResidualConvUnit(channels)
        self.resConfUnit2 = ResidualConvUnit(channels)

    def forward(self, x: Tensor, lateral: Tensor | None, size: tuple[int, int]) -> Tensor:
        """Fuse (B, C, h, w) maps and resize them.

        Args:
            x: coarser maps (B, C, h, w).
            lateral: maps of this level, same shape; None at the coarsest level.
            size: height and width of the result.

        Returns:
            (B, C, *size).
        """
        if lateral is not None:
            x = x + self.resConfUnit1(lateral)
        return self.out_conv(_resize(self.resConfUnit2(x), size))


class FusionDecoder(nn.Module):
    """Fuse four feature levels from coarse to fine, then project to the output channels."""

    def __init__(self, in_channels: Sequence[int], features: int, output_dim: int | None) -> None:
        """Build the decoder.

        Args:
            in_channels: channels of the four levels, fine to coarse.
            features: channels inside the decoder.
            output_dim: channels of ``project``; None builds no projection and keeps ``features`` channels.
        """
        super().__init__()
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = (
            nn.Conv2d(channels, features, 3, padding=1, bias=False) for channels in in_channels
        )
        self.refinenet1 = FeatureFusionBlock(features)
        self.refinenet2 = FeatureFusionBlock(features)
        self.refinenet3 = FeatureFusionBlock(features)
        self.refinenet4 = FeatureFusionBlock(features, has_lateral=False)
        if output_dim is None:
            self.output_conv1 = nn.Conv2d(features, features, 3, padding=1)
            return
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, output_dim, 1)
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Fuse four levels (B, C_i, h_i, w_i), fine to coarse, to (B, F', 2 h_0, 2 w_0)."""
        level1 = self.layer1_rn(levels[0])
        level2 = self.layer2_rn(levels[1])
        level3 = self.layer3_rn(levels[2])
        level4 = self.layer4_rn(levels[3])
        height, width = level1.shape[-2:]
        x = self.refinenet4(level4, None, level3.shape[-2:])
        x = self.refinenet3(x, level3, level2.shape[-2:])
        x = self.refinenet2(x, level2, (height, width))
        x = self.refinenet1(x, level1, (2 * height, 2 * width))
        return self.output_conv1(x)


class DPTHead(nn.Module):
    """Dense maps with confidence, or dense features, for every frame."""

    def __init__(
        self,
        dim_in: int = 2048,
        patch_size: int = 14,
        output_dim: int = 4,
        activation: str = "inv_log",
        conf_activation: str = "expp1",
        features: int = 256,
        out_channels: Sequence[int] = (256, 512, 1024, 1024),
        intermediate_layer_idx: Sequence[int] = (4, 11, 17, 23),
        pos_embed: bool = True,
        feature_only: bool = False,
        down_ratio: int = 1,
    ) -> None:
        """Build the head.

        Args:
            dim_in: channels of the aggregated tokens.
            patch_size: pixels per edge of a patch.
            output_dim: raw channels, the last one the confidence.
            activation: of the values, see ``head_activations``.
            conf_activation: of the confidence.
            features: channels of the decoder.
            out_channels: channels of the four levels, fine to coarse.
            intermediate_layer_idx: aggregator outputs of the four levels, fine to coarse.
            pos_embed: add image-plane positions to the levels and before the last projection.
            feature_only: return decoder features instead of activated maps.
            down_ratio: image pixels per output pixel, along an edge.

        Raises:
            ValueError: unknown activation, or not four levels.
        """
        super().__init__()
        check_activations(activation, conf_activation)
        if not len(out_channels) == len(intermediate_layer_idx) == 4:
            raise ValueError(
                "DPTHead: out_channels and intermediate_layer_idx must have four entries each, got "
                f"{list(out_channels)} and {list(intermediate_layer_idx)}"
            )
        self.patch_size = patch_size
        self.activation = activation
        self.conf_activation = conf_activation
        self.intermediate_layer_idx = tuple(intermediate_layer_idx)
        self.pos_embed = pos_embed
        self.feature_only = feature_only
        self.down_ratio = down_ratio

        fine, medium, _, coarse = out_channels
        self.norm = nn.LayerNorm(dim_in)
        self.projects = nn.ModuleList(nn.Conv2d(dim_in, channels, 1) for channels in out_channels)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(fine, fine, kernel_size=4, stride=4),
                nn.ConvTranspose2d(medium, medium, kernel_size=2, stride=2),
                nn.Identity(),
                nn.Conv2d(coarse, coarse, kernel_size=3, stride=2, padding=1),
            ]
        )
        self.scratch = FusionDecoder(out_channels, features, None if feature_only else output_dim)

    def forward(
        self,
        aggregated_tokens: Sequence[Tensor],
        image_size: tuple[int, int],
        patch_start_idx: int,
        frames_chunk_size: int | None = 8,
    ) -> tuple[Tensor, Tensor] | Tensor:
        """Predict dense maps for every frame.

        Args:
            aggregated_tokens: the aggregator's outputs of all rounds, each (B, S, P, dim_in).
            image_size: height H and width W of the images, in pixels.
            patch_start_idx: index of the first patch token.
            frames_chunk_size: frames decoded at once, to bound memory; None decodes all at once.

        Returns:
            Values (B, S, H, W, output_dim - 1) and confidence (B, S, H, W), H and W divided by
            ``down_ratio``; with ``feature_only`` the features (B, S, F, H, W) instead.

        Raises:
            ValueError: too few aggregated tensors, or their patches do not cover the image.
        """
        levels = self._select_levels(aggregated_tokens, image_size, patch_start_idx)
        frames = levels[0].shape[1]
        chunk = frames if frames_chunk_size is None else frames_chunk_size
        chunks = [
            self._decode([level[:, first : first + chunk] for level in levels], image_size)
            for first in range(0, frames, chunk)
        ]
        if self.feature_only:
            return torch.cat(chunks, dim=1)
        values, confidence = zip(*chunks, strict=True)
        return torch.cat(values, dim=1), torch.cat(confidence, dim=1)

    def _select_levels(
        self, aggregated_tokens: Sequence[Tensor], image_size: tuple[int, int], patch_start_idx: int
    ) -> list[Tensor]:
        needed = 1 + max(self.intermediate_layer_idx)
        if len(aggregated_tokens) < needed:
            raise ValueError(
                f"DPTHead: expected the outputs of at least {needed} aggregator rounds, got "
                f"{len(aggregated_tokens)}; run the aggregator with last_only=False"
            )
        levels = [aggregated_tokens[index][:, :, patch_start_idx:] for index in self.intermediate_layer_idx]
        rows, columns = image_size[0] // self.patch_size, image_size[1] // self.patch_size
        if levels[0].shape[2] != rows * columns:
            raise ValueError(
                f"DPTHead: a {image_size[0]}x{image_size[1]} image has {rows * columns} patches, but the "
                f"tokens hold {levels[0].shape[2]}; pass the size of the images that were aggregated"
            )
        return levels

    def _decode(
        self, levels: Sequence[Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor] | Tensor:
        """Decode four levels of patch tokens, each (B, S, P0, dim_in), of one chunk of frames."""
        batch_frames = levels[0].shape[:2]
        aspect_ratio = image_size[1] / image_size[0]
        rows, columns = image_size[0] // self.patch_size, image_size[1] // self.patch_size
        maps = []
        for tokens, project, resize in zip(levels, self.projects, self.resize_layers, strict=True):
            level = self.norm(tokens.flatten(0, 1)).mT.unflatten(-1, (rows, columns))  # (B*S, dim_in, h, w)
            maps.append(resize(self._add_positions(project(level), aspect_ratio)))
        fused = self.scratch(maps)
        size = (rows * self.patch_size // self.down_ratio, columns * self.patch_size // self.down_ratio)
        fused = self._add_positions(_resize(fused, size), aspect_ratio)
        if self.feature_only:
            return fused.unflatten(0, batch_frames)
        maps = self.scratch.output_conv2(fused)
        values, confidence = activate_head(maps, self.activation, self.conf_activation)
        return values.unflatten(0, batch_frames), confidence.unflatten(0, batch_frames)

    def _add_positions(self, maps: Tensor, aspect_ratio: float) -> Tensor:
        if not self.pos_embed:
            return maps
        embedding = image_plane_embedding(*maps.shape[1:], aspect_ratio, device=maps.device)
        return maps + POSITION_GAIN * embedding.to(maps.dtype)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=True)
