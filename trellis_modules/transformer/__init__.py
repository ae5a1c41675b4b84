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
    split_modulation,
)
from trellis_modules.transformer.norm import ChannelLayerNorm32, GroupNorm32, LayerNorm32

__all__ = [
    "NORM_EPS",
    "ChannelLayerNorm32",
    "FeedForward",
    "GroupNorm32",
    "LayerNorm32",
    "ModulatedTransformerBlock",
    "ModulatedTransformerCrossBlock",
    "Modulation",
    "TimestepEmbedder",
    "absolute_position_embedding",
    "initialize_transformer",
    "modulation_network",
    "split_modulation",
    "timestep_embedding",
]
