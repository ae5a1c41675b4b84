"""The transformer that the structured-latent encoder and decoders share.

Source: TRELLIS, arXiv:2412.01506, sec. 3.2; attribute names are those of its released checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from trellis_modules.models.torso import TorsoModule, full_precision
from trellis_modules.models.transformer_config import TransformerConfig
from trellis_modules.sparse import SparseLinear, SparseTensor
from trellis_modules.transformer import (
    AttentionMode,
    SparseTransformerBlock,
    attention_patterns,
    initialize_transformer,
    voxel_position_embedding,
)


@dataclass(frozen=True, kw_only=True)
class StructuredLatentConfig(TransformerConfig):
    """Sizes of a structured-latent encoder or decoder; field names are the keys of the released ones."""

    resolution: int  # voxels per edge of the object cube
    latent_channels: int
    attn_mode: AttentionMode = "swin"
    window_size: int = 8  # see attention_patterns


class StructuredLatentTrunk(TorsoModule):
    """Input layer, position embedding and transformer blocks, then the output layer of the subclass."""

    def __init__(self, config: StructuredLatentConfig, in_channels: int, out_channels: int) -> None:
        """Create the layers.

        Args:
            config: sizes.
            in_channels: features of an input voxel.
            out_channels: of the output layer.
        """
        super().__init__()
        self.config = config
        self.input_layer = SparseLinear(in_channels, config.model_channels)
        patterns = attention_patterns(config.attn_mode, config.window_size, config.num_blocks)
        self.blocks = nn.ModuleList(
            SparseTransformerBlock(
                config.model_channels,
                config.heads,
                config.mlp_ratio,
                pattern,
                qk_rms_norm=config.qk_rms_norm,
            )
            for pattern in patterns
        )
        self._build_output(out_channels)
        self.initialize_weights()
        if config.use_fp16:
            self.convert_torso(torch.float16)

    def _build_output(self, out_channels: int) -> None:
        """Create what follows the blocks; names are checkpoint keys."""
        self.out_layer = SparseLinear(self.config.model_channels, out_channels)

    def torso(self) -> Iterator[nn.Module]:
        """The transformer blocks."""
        yield self.blocks

    def initialize_weights(self) -> None:
        """Initial weights for training from scratch; the first output is zero."""
        initialize_transformer(self)
        nn.init.zeros_(self.out_layer.weight)

    def transform(self, x: SparseTensor) -> SparseTensor:
        """(B, in_channels) voxels -> (B, model_channels) in the torso dtype.

        Raises:
            ValueError: the channels do not fit.
        """
        with full_precision(x.device):
            h = self.input_layer(x)
            positions = voxel_position_embedding(h, self.config.model_channels)
            h = h.replace(h.feats + positions).to(self.torso_dtype)
        for index, block in enumerate(self.blocks):
            h = self.run_block(index, block, h)
        return h

    def project(self, h: SparseTensor) -> SparseTensor:
        """Layer norm and output layer in float32: (B, model_channels) -> (B, out_channels)."""
        with full_precision(h.device):
            h = h.apply(lambda feats: F.layer_norm(feats.float(), feats.shape[-1:]))
            return self.out_layer(h)
