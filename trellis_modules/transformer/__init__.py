"""Transformer parts: norms, embeddings, feed-forward network and modulated blocks."""

from trellis_modules.transformer.embedding import (
    TimestepEmbedder,
    absolute_position_embedding,
    timestep_embedding,
)
from trellis_modules.transformer.feed_forward import FeedForward
from trellis_modules.transformer.initialization import initialize_transformer
from trellis_modules.transformer.modulated import (
    NORM_EPS,
    ModulatedTransformerBlock,
    ModulatedTransformerCrossBlock,
    Modulation,
    modulation_network,
    modulation_vectors,
    split_modulation,
    split_row_modulation,
)
from trellis_modules.transformer.norm import ChannelLayerNorm32, GroupNorm32, LayerNorm32
from trellis_modules.transformer.sparse import (
    AttentionMode,
    ModulatedSparseTransformerBlock,
    ModulatedSparseTransformerCrossBlock,
    SparseTransformerBlock,
    attention_patterns,
    segments_of,
    voxel_position_embedding,
)

__all__ = [
    "AttentionMode",
    "NORM_EPS",
    "ChannelLayerNorm32",
    "FeedForward",
    "GroupNorm32",
    "LayerNorm32",
    "ModulatedSparseTransformerBlock",
    "ModulatedSparseTransformerCrossBlock",
    "ModulatedTransformerBlock",
    "ModulatedTransformerCrossBlock",
    "Modulation",
    "SparseTransformerBlock",
    "TimestepEmbedder",
    "absolute_position_embedding",
    "attention_patterns",
    "initialize_transformer",
    "modulation_network",
    "modulation_vectors",
    "segments_of",
    "split_modulation",
    "split_row_modulation",
    "timestep_embedding",
    "voxel_position_embedding",
]
