"""Alternating frame and global attention over the patches of an image sequence.

Source: VGGT, arXiv:2503.11651, sec. 3.2. Attribute names are the released weights' keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vggt.images import normalize_images
from vggt.layers.block import Block, init_linear_weights
from vggt.layers.patch_embed import PatchEmbed
from vggt.layers.patch_embeddings import PATCH_EMBEDDINGS, build_patch_embed
from vggt.layers.rope import RotaryTable, grid_positions, rotary_table
from vggt.layers.vision_transformer import VisionTransformer, released_vision_transformer

FRAME, GLOBAL = "frame", "global"


class Aggregator(nn.Module):
    """Patch encoder followed by rounds of attention inside each frame and across all frames.

    Each frame's tokens are one camera token, the registers and the patches. Frame 0 of a sequence has its
    own camera and register tokens, because its camera is the world frame; the others share a second set.
    """

    def __init__(
        self,
        img_size: int = 518,
        patch_size: int = 14,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        num_register_tokens: int = 4,
        patch_embed: str = "dinov2_vitl14_reg",
        aa_order: Sequence[str] = (FRAME, GLOBAL),
        aa_block_size: int = 1,
        qk_norm: bool = True,
        rope_freq: float = 100.0,
        init_values: float = 0.01,
    ) -> None:
        """Build the aggregator.

        Args:
            img_size: pixels per edge covered by the patch encoder's position table.
            patch_size: pixels per edge of a patch.
            embed_dim: channels C of the tokens.
            depth: blocks of each kind.
            num_heads: attention heads of a block.
            mlp_ratio: hidden width of a block's perceptron over C.
            num_register_tokens: registers of each frame.
            patch_embed: a name of `build_patch_embed`, or a released DINOv2 name of the same width.
            aa_order: "frame" and "global" in the order in which a round runs them.
            aa_block_size: consecutive blocks of one kind in a round; divides ``depth``.
            qk_norm: normalise queries and keys per head.
            rope_freq: base frequency of the rotary positions.
            init_values: initial layer scale.

        Raises:
            ValueError: an argument is unknown or does not fit the others.
        """
        super().__init__()
        _check_rounds(depth, aa_block_size, aa_order)
        self.aa_order = tuple(aa_order)
        self.aa_block_size = aa_block_size
        self.head_dim = embed_dim // num_heads
        self.rope_freq = float(rope_freq)
        self.patch_start_idx = 1 + num_register_tokens

        self.patch_embed = _build_patch_embed(patch_embed, img_size, patch_size, embed_dim)

        def blocks() -> nn.ModuleList:
            return nn.ModuleList(
                Block(embed_dim, num_heads, mlp_ratio, qk_norm=qk_norm, init_values=init_values)
                for _ in range(depth)
            )

        self.frame_blocks = blocks()
        self.global_blocks = blocks()
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, embed_dim))
        self.register_token = nn.Parameter(torch.zeros(1, 2, num_register_tokens, embed_dim))
        self._init_weights()

    def _init_weights(self) -> None:
        init_linear_weights(self.frame_blocks)
        init_linear_weights(self.global_blocks)
        nn.init.normal_(self.camera_token, std=1e-6)
        nn.init.normal_(self.register_token, std=1e-6)

    def forward(self, images: Tensor, last_only: bool = False) -> tuple[list[Tensor], int]:
        """Encode image sequences.

        Args:
            images: (B, S, 3, H, W) in [0, 1], H and W multiples of the patch size.
            last_only: return only the last round's tokens; the others are not kept in memory.

        Returns:
            List of ``depth`` tensors (one if ``last_only``), each (B, S, P, 2C): the frame block's output,
            then the global block's, on channels; P = camera token, registers, patches in row-major order.
            And the index of the first patch token.

        Raises:
            ValueError: images are not (B, S, 3, H, W) or do not split into patches.
        """
        if images.ndim != 5 or images.shape[2] != 3:
            raise ValueError(f"Aggregator: images must be (B, S, 3, H, W), got {tuple(images.shape)}")
        batch, frames = images.shape[:2]
        tokens = self._embed(images)  # (B, S, P, C)
        frame_table, global_table = self._rotary_tables(images, frames)

        outputs: list[Tensor] = []
        for first in range(0, len(self.frame_blocks), self.aa_block_size):
            span = slice(first, first + self.aa_block_size)
            stages: dict[str, list[Tensor]] = {}
            for kind in self.aa_order:
                if kind == FRAME:
                    stages[kind] = _run(self.frame_blocks[span], tokens.flatten(0, 1), frame_table)
                else:
                    stages[kind] = _run(self.global_blocks[span], tokens.flatten(1, 2), global_table)
                tokens = stages[kind][-1].reshape(batch, frames, -1, tokens.shape[-1])
            pairs = zip(stages[FRAME], stages[GLOBAL], strict=True)
            round_outputs = [
                torch.cat((frame.view_as(tokens), across.view_as(tokens)), dim=-1) for frame, across in pairs
            ]
            outputs = round_outputs[-1:] if last_only else outputs + round_outputs
        return outputs, self.patch_start_idx

    def _embed(self, images: Tensor) -> Tensor:
        batch, frames = images.shape[:2]
        patches = self.patch_embed(normalize_images(images).flatten(0, 1))
        if isinstance(patches, dict):
            patches = patches["x_norm_patchtokens"]
        patches = patches.unflatten(0, (batch, frames))  # (B, S, P0, C)
        special = torch.cat((self.camera_token, self.register_token), dim=2)  # (1, 2, 1 + R, C)
        special = torch.cat((special[:, :1], special[:, 1:].expand(-1, frames - 1, -1, -1)), dim=1)
        return torch.cat((special.expand(batch, -1, -1, -1), patches), dim=2)

    def _rotary_tables(self, images: Tensor, frames: int) -> tuple[RotaryTable, RotaryTable]:
        """Tables of one frame's tokens and of all frames' tokens; special tokens sit at (0, 0)."""
        patch_embed = self.patch_embed
        conv = patch_embed if isinstance(patch_embed, PatchEmbed) else patch_embed.patch_embed
        patch_positions = grid_positions(*conv.grid_size(images), device=images.device) + 1
        special_positions = patch_positions.new_zeros(self.patch_start_idx, 2)
        table = rotary_table(torch.cat((special_positions, patch_positions)), self.head_dim, self.rope_freq)
        return table, RotaryTable(*(part.repeat(frames, 1) for part in table))


def _run(blocks: nn.ModuleList, tokens: Tensor, table: RotaryTable) -> list[Tensor]:
    """Apply blocks one after the other; returns every block's output."""
    outputs = []
    for block in blocks:
        tokens = block(tokens, table)
        outputs.append(tokens)
    return outputs


def _check_rounds(depth: int, aa_block_size: int, aa_order: Sequence[str]) -> None:
    if depth % aa_block_size:
        raise ValueError(
            f"Aggregator: depth must be a multiple of aa_block_size, got {depth} and {aa_block_size}"
        )
    if sorted(aa_order) != [FRAME, GLOBAL]:
        raise ValueError(
            f"Aggregator: aa_order must hold {FRAME!r} and {GLOBAL!r} once each, got {list(aa_order)}"
        )


def _build_patch_embed(
    name: str, img_size: int, patch_size: int, embed_dim: int
) -> PatchEmbed | VisionTransformer:
    if name in PATCH_EMBEDDINGS:
        return build_patch_embed(name, patch_size, embed_dim)
    encoder = released_vision_transformer(name, img_size, patch_size)
    if encoder.embed_dim != embed_dim:
        raise ValueError(
            f"Aggregator: patch_embed {name!r} has {encoder.embed_dim} channels, but embed_dim is "
            f"{embed_dim}; give matching sizes"
        )
    return encoder
