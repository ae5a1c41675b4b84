"""DINOv2 vision transformer with register tokens.

Source: DINOv2, arXiv:2304.07193; registers, arXiv:2309.16588. Attribute names are the released weights' keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vggt.layers.block import Block, init_linear_weights
from vggt.layers.patch_embeddings import build_patch_embed

NORM_EPS = 1e-6

# Released sizes: embed_dim, depth, num_heads; all with patch size 14 and four registers.
RELEASED_SIZES = {
    "dinov2_vits14_reg": (384, 12, 6),
    "dinov2_vitb14_reg": (768, 12, 12),
    "dinov2_vitl14_reg": (1024, 24, 16),
}


class VisionTransformer(nn.Module):
    """Patch encoder: class token, registers and patches through pre-norm blocks."""

    def __init__(
        self,
        img_size: int = 518,
        patch_size: int = 14,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        num_register_tokens: int = 4,
        init_values: float = 1.0,
        interpolate_antialias: bool = True,
        interpolate_offset: float = 0.0,
        patch_embed: str = "conv",
    ) -> None:
        """Build the transformer.

        Args:
            img_size: pixels per edge of the square image whose grid the position table covers.
            patch_size: pixels per edge of a patch.
            embed_dim: channels of the tokens.
            depth: blocks.
            num_heads: attention heads of a block.
            mlp_ratio: hidden width of a block's perceptron over ``embed_dim``.
            num_register_tokens: learned tokens without position between class token and patches.
            init_values: initial layer scale.
            interpolate_antialias: low-pass the position table when it is shrunk to another grid.
            interpolate_offset: added to the grid size when scaling the position table; some released
                weights were trained with 0.1. At 0 the target size is given exactly.
            patch_embed: see `build_patch_embed`; "conv" in all releases.

        Raises:
            ValueError: ``img_size`` is not a multiple of ``patch_size``, or no such patch embedding.
        """
        super().__init__()
        if img_size % patch_size:
            raise ValueError(
                f"VisionTransformer: img_size must be a multiple of patch_size, got {img_size} "
                f"and {patch_size}"
            )
        self.embed_dim = embed_dim
        self.num_register_tokens = num_register_tokens
        self.interpolate_antialias = interpolate_antialias
        self.interpolate_offset = interpolate_offset
        self.table_edge = img_size // patch_size

        self.patch_embed = build_patch_embed(patch_embed, patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.table_edge**2, embed_dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, num_register_tokens, embed_dim))
        # Masked-image pretraining used it; it only keeps the released key set complete.
        self.mask_token = nn.Parameter(torch.zeros(1, embed_dim), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, init_values=init_values, norm_eps=NORM_EPS)
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=NORM_EPS)
        self._init_weights()

    def _init_weights(self) -> None:
        if self.pos_embed.is_meta:  # those of a file will take their place
            return
        init_linear_weights(self)
        with torch.no_grad():
            self.pos_embed[0, 1:] = _grid_table(self.table_edge, self.pos_embed.shape[-1])
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.normal_(self.register_tokens, std=1e-6)

    def position_table(self, grid_height: int, grid_width: int) -> Tensor:
        """Return the position embedding of a patch grid.

        Args:
            grid_height: patch rows.
            grid_width: patch columns.

        Returns:
            (1, 1 + grid_height * grid_width, C), class token first, resampled bicubically in float32 where
            the grid is not the table's own.
        """
        edge = self.table_edge
        if (grid_height, grid_width) == (edge, edge):
            return self.pos_embed
        table = self.pos_embed[:, 1:].float().unflatten(1, (edge, edge)).permute(0, 3, 1, 2)  # (1, C, y, x)
        if self.interpolate_offset:
            offset = self.interpolate_offset
            target = {"scale_factor": ((grid_height + offset) / edge, (grid_width + offset) / edge)}
        else:
            target = {"size": (grid_height, grid_width)}
        table = F.interpolate(table, mode="bicubic", antialias=self.interpolate_antialias, **target)
        table = table.flatten(2).mT.to(self.pos_embed.dtype)  # (1, P, C)
        return torch.cat((self.pos_embed[:, :1], table), dim=1)

    def _embed(self, images: Tensor) -> Tensor:
        tokens = self.patch_embed(images)
        batch = tokens.shape[0]
        tokens = torch.cat((self.cls_token.expand(batch, -1, -1), tokens), dim=1)
        tokens = tokens + self.position_table(*self.patch_embed.grid_size(images))
        registers = self.register_tokens.expand(batch, -1, -1)
        return torch.cat((tokens[:, :1], registers, tokens[:, 1:]), dim=1)  # (B, 1 + R + P, C)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Encode images.

        Args:
            images: (B, 3, H, W), normalised with the ImageNet mean and deviation; H and W multiples of the
                patch size.

        Returns:
            ``x_prenorm`` (B, 1 + R + P, C): class token, R registers and P row-major patches before the final
            norm; after it ``x_norm_clstoken`` (B, C), ``x_norm_regtokens`` (B, R, C) and
            ``x_norm_patchtokens`` (B, P, C).

        Raises:
            ValueError: H or W is not a multiple of the patch size.
        """
        tokens = self._embed(images)
        for block in self.blocks:
            tokens = block(tokens)
        normed = self.norm(tokens)
        first_patch = 1 + self.num_register_tokens
        return {
            "x_prenorm": tokens,
            "x_norm_clstoken": normed[:, 0],
            "x_norm_regtokens": normed[:, 1:first_patch],
            "x_norm_patchtokens": normed[:, first_patch:],
        }


def released_vision_transformer(name: str, img_size: int = 518, patch_size: int = 14) -> VisionTransformer:
    """Build a released DINOv2 size by name, without weights.

    Args:
        name: a key of ``RELEASED_SIZES``.
        img_size: pixels per edge covered by the position table (518 in the releases).
        patch_size: pixels per edge of a patch (14 in the releases).

    Raises:
        ValueError: unknown name.
    """
    if name not in RELEASED_SIZES:
        raise ValueError(
            f"released_vision_transformer: unknown name {name!r}; expected one of {sorted(RELEASED_SIZES)}"
        )
    embed_dim, depth, num_heads = RELEASED_SIZES[name]
    return VisionTransformer(img_size, patch_size, embed_dim, depth, num_heads)


def _grid_table(edge: int, channels: int) -> Tensor:
    """Sines and cosines of rows and columns (edge**2, channels): positions need not be learnt from nothing.

    A table of small noise, the usual start, is drowned by the patch content for thousands of steps.

    Source: He et al., Masked Autoencoders, arXiv:2111.06377, appendix A.
    """
    cells = torch.arange(edge, dtype=torch.float32)
    quarter = channels // 4
    angles = cells[:, None] / 10000 ** (torch.arange(quarter) / max(1, quarter))
    axis = torch.cat((angles.sin(), angles.cos()), dim=-1)  # (edge, C / 2)
    rows, columns = axis[:, None].expand(-1, edge, -1), axis[None].expand(edge, -1, -1)
    table = torch.cat((rows, columns), dim=-1).flatten(0, 1)
    return torch.nn.functional.pad(table, (0, channels - table.shape[-1]))
