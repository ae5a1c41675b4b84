"""Transformer blocks on sparse tensors: dense parts on rows, attention inside the segments of a pattern."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from trellis_modules.attention import (
    AttentionPattern,
    FullPattern,
    KeyValue,
    Segments,
    SelfAttention,
    SerializedPattern,
    SerializeMode,
    WindowPattern,
)
from trellis_modules.sparse import SparseTensor
from trellis_modules.transformer.embedding import absolute_position_embedding
from trellis_modules.transformer.feed_forward import FeedForward
from trellis_modules.transformer.modulated import (
    NORM_EPS,
    ModulatedTransformerBlock,
    ModulatedTransformerCrossBlock,
    Modulation,
    split_row_modulation,
)
from trellis_modules.transformer.norm import LayerNorm32

AttentionMode = Literal["full", "swin", "shift_window", "shift_sequence", "shift_order"]

#: The pattern of a block that is told none.
FULL = FullPattern()

#: Shift of the coordinates in every other block of mode "shift_window", in voxels.
_SERIALIZED_SHIFT = 16


def segments_of(x: SparseTensor, pattern: AttentionPattern) -> Segments:
    """The groups of rows of x that attend to each other, kept in the cache of x."""
    return x.cached(("segments", pattern), lambda: pattern.segments(x.coords, x.lengths))


def voxel_position_embedding(x: SparseTensor, channels: int) -> Tensor:
    """(T, channels) float32 embedding of the coordinates of x, kept in its cache."""
    return x.cached(
        ("position embedding", channels), lambda: absolute_position_embedding(x.coords[:, 1:], channels)
    )


def attention_patterns(mode: AttentionMode, window_size: int, num_blocks: int) -> Sequence[AttentionPattern]:
    """The pattern of each block of a transformer; those of neighbouring blocks are shifted or reordered.

    Args:
        mode: "full", windows in space ("swin"), or windows along a curve whose coordinates, sequence or order
            changes from block to block.
        window_size: edge of a window in voxels, or voxels of a window along a curve.
        num_blocks: patterns wanted.
    """
    if mode == "full":
        cycle = [FullPattern()]
    elif mode == "swin":
        cycle = [WindowPattern(window_size, shift) for shift in (0, window_size // 2)]
    elif mode == "shift_window":
        cycle = [
            SerializedPattern(window_size, shift_window=(shift,) * 3) for shift in (0, _SERIALIZED_SHIFT)
        ]
    elif mode == "shift_sequence":
        cycle = [SerializedPattern(window_size, shift_sequence=shift) for shift in (0, window_size // 2)]
    elif mode == "shift_order":
        cycle = [SerializedPattern(window_size, order) for order in SerializeMode]
    else:
        raise ValueError(f"attention_patterns: unknown mode {mode!r}; choose one of {AttentionMode.__args__}")
    return [cycle[index % len(cycle)] for index in range(num_blocks)]


def _row_modulations(x: SparseTensor, vectors: Tensor, channels: int) -> list[Modulation]:
    """(B or 1, 3 k C) vectors as k modulations whose values belong to the rows of x."""
    if len(vectors) != 1:  # vectors of a single element, or of all, broadcast over the rows
        vectors = x.expand_batch(vectors)
    return split_row_modulation(vectors, channels)


class SparseTransformerBlock(nn.Module):
    """Self attention and feed-forward network."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        pattern: AttentionPattern = FULL,
        *,
        qk_rms_norm: bool = False,
        ln_affine: bool = False,
    ) -> None:
        super().__init__()
        self.pattern = pattern
        self.norm1 = LayerNorm32(channels, eps=NORM_EPS, elementwise_affine=ln_affine)
        self.norm2 = LayerNorm32(channels, eps=NORM_EPS, elementwise_affine=ln_affine)
        self.attn = SelfAttention(channels, num_heads, qk_rms_norm)
        self.mlp = FeedForward(channels, mlp_ratio)

    def forward(self, x: SparseTensor) -> SparseTensor:
        """(B, C) -> (B, C)."""
        h = x.feats + self.attn(self.norm1(x.feats), segments_of(x, self.pattern))
        return x.replace(h + self.mlp(self.norm2(h)))


class ModulatedSparseTransformerBlock(ModulatedTransformerBlock):
    """``ModulatedTransformerBlock`` on the voxels of a sparse tensor."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        pattern: AttentionPattern = FULL,
        *,
        qk_rms_norm: bool = False,
        share_mod: bool = False,
    ) -> None:
        super().__init__(channels, num_heads, mlp_ratio, qk_rms_norm, share_mod=share_mod)
        self.pattern = pattern

    def forward(self, x: SparseTensor, condition: Tensor) -> SparseTensor:
        """(B, C) voxels and a (B, C) condition, (B, 6 C) with ``share_mod`` -> (B, C)."""
        attn, mlp = _row_modulations(x, self.adaLN_modulation(condition), self.channels)
        return x.replace(self.branches(x.feats, attn, mlp, segments_of(x, self.pattern)))


class ModulatedSparseTransformerCrossBlock(ModulatedTransformerCrossBlock):
    """``ModulatedTransformerCrossBlock`` on the voxels of a sparse tensor, with full self attention."""

    def forward(self, x: SparseTensor, condition: Tensor, context: Tensor | KeyValue) -> SparseTensor:
        """One block; all that it computes with its parameters is computed here.

        Args:
            x: (B, C) voxels.
            condition: (B, C), or (B or 1, 6 C) from the model's modulation network or from ``vectors``.
            context: (B, M, D), or its keys and values from ``project_context``.

        Returns:
            (B, C).
        """
        elements = segments_of(x, FULL)
        if elements.uniform and elements.max_length:  # a dense batch: nothing per row, no groups
            tokens = x.feats.unflatten(0, (x.batch_size, elements.max_length))
            return x.replace(super().forward(tokens, condition, context).flatten(0, 1))
        attn, mlp = _row_modulations(x, *self.vectors(condition), self.channels)
        attended = self.attend(x.feats, attn, self.project_context(context), elements, elements)
        return x.replace(self.feed_forward(attended, mlp))
