"""Transformer that corrects point tracks, alternating attention over frames and over points.

Source: VGGT, arXiv:2503.11651, sec. 3.3, after CoTracker, arXiv:2307.07635. Attribute names are the released
weights' keys.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vggt.layers.mlp import Mlp

NUM_VIRTUAL_TRACKS = 64


class TrackAttentionBlock(nn.Module):
    """Self-attention and perceptron; the first residual starts from the normalised tokens."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, dim) to (B, L, dim)."""
        x = self.norm1(x)
        x = x + self.attn(x, x, x, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class TrackCrossAttentionBlock(nn.Module):
    """Cross-attention and perceptron; the first residual starts from the normalised tokens."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.cross_attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Let x (B, L, dim) attend to context (B, M, dim); returns (B, L, dim)."""
        x, context = self.norm1(x), self.norm_context(context)
        x = x + self.cross_attn(x, context, context, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class UpdateFormer(nn.Module):
    """Attend along each track, then between tracks through a small set of virtual tracks."""

    def __init__(
        self, input_dim: int, hidden_size: int, output_dim: int, depth: int = 6, num_heads: int = 8
    ) -> None:
        """Build the transformer.

        Args:
            input_dim: channels of a track's description in one frame.
            hidden_size: channels of the tokens.
            output_dim: channels of the correction.
            depth: rounds of frame and point attention.
            num_heads: attention heads of a block.
        """
        super().__init__()
        self.input_norm = nn.LayerNorm(input_dim)
        self.input_transform = nn.Linear(input_dim, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size)
        self.flow_head = nn.Linear(hidden_size, output_dim)
        # The misspelling is the released key.
        self.virual_tracks = nn.Parameter(torch.randn(1, NUM_VIRTUAL_TRACKS, 1, hidden_size))

        def blocks(kind: type[nn.Module]) -> nn.ModuleList:
            return nn.ModuleList(kind(hidden_size, num_heads) for _ in range(depth))

        self.time_blocks = blocks(TrackAttentionBlock)
        self.space_virtual_blocks = blocks(TrackAttentionBlock)
        self.space_point2virtual_blocks = blocks(TrackCrossAttentionBlock)
        self.space_virtual2point_blocks = blocks(TrackCrossAttentionBlock)

    def forward(self, x: Tensor) -> Tensor:
        """Map track descriptions (B, N, S, input_dim) to corrections (B, N, S, output_dim)."""
        batch, points, frames = x.shape[:3]
        initial = self.input_transform(self.input_norm(x))
        tokens = torch.cat(
            (initial, self.virual_tracks.expand(batch, -1, frames, -1)), dim=1
        )  # (B, N + V, S, D)
        rounds = zip(
            self.time_blocks,
            self.space_virtual2point_blocks,
            self.space_virtual_blocks,
            self.space_point2virtual_blocks,
            strict=True,
        )
        for along_frames, virtual_from_points, among_virtual, points_from_virtual in rounds:
            tokens = along_frames(tokens.flatten(0, 1)).unflatten(0, (batch, -1))
            tokens = tokens.transpose(1, 2).flatten(0, 1)  # (B * S, N + V, D)
            point_tokens, virtual_tokens = tokens[:, :points], tokens[:, points:]
            virtual_tokens = among_virtual(virtual_from_points(virtual_tokens, point_tokens))
            point_tokens = points_from_virtual(point_tokens, virtual_tokens)
            tokens = torch.cat((point_tokens, virtual_tokens), dim=1)
            tokens = tokens.unflatten(0, (batch, frames)).transpose(1, 2)  # (B, N + V, S, D)
        return self.flow_head(self.output_norm(tokens[:, :points] + initial))
