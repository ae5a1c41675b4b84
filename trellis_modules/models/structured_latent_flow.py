"""Flow transformer on structured latents: noisy features at the active voxels of an object.

Source: TRELLIS, arXiv:2412.01506, sec. 3.3; attribute names are those of its released checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from trellis_modules.flow_output import FlowOutput
from trellis_modules.models.sparse_blocks import SparseResBlock3d
from trellis_modules.models.sparse_structure_flow import (
    PreparedContext,
    SparseStructureFlowConfig,
    SparseStructureFlowModel,
)
from trellis_modules.models.torso import full_precision
from trellis_modules.samplers.flow_matching import MODEL_TIME_SCALE, PreparedTime
from trellis_modules.sparse import SparseLinear, SparseTensor, sparse_cat
from trellis_modules.transformer import (
    ModulatedSparseTransformerCrossBlock,
    TimestepEmbedder,
    voxel_position_embedding,
)


@dataclass(frozen=True, kw_only=True)
class SLatFlowConfig(SparseStructureFlowConfig):
    """Sizes of an ``SLatFlowModel``; field names are the keys of the released configurations."""

    num_io_res_blocks: int = 2  # residual blocks of each input and output level
    io_block_channels: tuple[int, ...] | None = None  # widths of the levels finer than the transformer's
    use_skip_connection: bool = True  # from input blocks to output blocks
    input_skip: bool = False  # see `SLatFlowModel`

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = len(self.io_block_channels or ())
        if 2**levels != self.patch_size:
            raise ValueError(
                f"patch_size must be 2^levels for {levels} io_block_channels, i.e. {2**levels}, "
                f"got {self.patch_size}"
            )
        if self.input_skip and self.in_channels != self.out_channels:
            raise ValueError(
                f"input_skip needs as many out_channels as in_channels, got {self.out_channels} and "
                f"{self.in_channels}"
            )
        if levels and self.num_io_res_blocks < 1:
            raise ValueError(f"num_io_res_blocks must be at least 1, got {self.num_io_res_blocks}")


class SLatFlowModel(SparseStructureFlowModel):
    """The transformer of ``SparseStructureFlowModel`` on voxels, between sparse convolutional levels.

    With ``input_skip`` the network predicts what is left of the velocity after its best linear guess from the
    state, so that a small one need not learn to pass the noise through; no released model does.
    """

    config: SLatFlowConfig

    def _build(self) -> None:
        config = self.config
        width = config.model_channels
        channels = (*(config.io_block_channels or ()), width)  # from the finest level to the transformer
        self.t_embedder = TimestepEmbedder(width)
        self.adaLN_modulation = self._shared_modulation(num_branches=2)
        self.input_layer = SparseLinear(config.in_channels, channels[0])
        self.input_blocks = nn.ModuleList(self._make_input_blocks(channels))
        self.blocks = nn.ModuleList(self._make_block() for _ in range(config.num_blocks))
        self.out_blocks = nn.ModuleList(self._make_output_blocks(channels))
        self.out_layer = SparseLinear(channels[0], config.out_channels)

    def _make_block(self) -> nn.Module:
        config = self.config
        return ModulatedSparseTransformerCrossBlock(
            config.model_channels,
            config.cond_channels,
            config.heads,
            config.mlp_ratio,
            share_mod=config.share_mod,
            qk_rms_norm=config.qk_rms_norm,
            qk_rms_norm_cross=config.qk_rms_norm_cross,
        )

    def _make_input_blocks(self, channels: tuple[int, ...]) -> Iterator[SparseResBlock3d]:
        width = self.config.model_channels
        for fine, coarse in pairwise(channels):
            for _ in range(self.config.num_io_res_blocks - 1):
                yield SparseResBlock3d(fine, width)
            yield SparseResBlock3d(fine, width, coarse, downsample=True)

    def _make_output_blocks(self, channels: tuple[int, ...]) -> Iterator[SparseResBlock3d]:
        width = self.config.model_channels
        joined = 2 if self.config.use_skip_connection else 1
        for coarse, fine in pairwise(reversed(channels)):
            yield SparseResBlock3d(joined * coarse, width, fine, upsample=True)
            for _ in range(self.config.num_io_res_blocks - 1):
                yield SparseResBlock3d(joined * fine, width, fine)

    def torso(self) -> Iterator[nn.Module]:
        """Everything between the input and output layers."""
        yield from (self.input_blocks, self.blocks, self.out_blocks)

    def forward(
        self,
        x: SparseTensor,
        t: Tensor | PreparedTime,
        cond: Tensor | PreparedContext,
        *,
        num_object_tokens: int | None = None,
        scene_size: int | None = None,
        is_query: Tensor | None = None,
        features_before: int | None = None,
    ) -> FlowOutput:
        """Predict the velocity of each object by itself.

        Args:
            x: (B, in_channels) noisy latents at the active voxels, wherever they are: every place has an
                embedding, beyond ``resolution`` too.
            t: (B,) time times 1000, or a result of ``precompute_times``.
            cond: (B, L, cond_channels), or the result of ``precompute_context``.
            num_object_tokens, scene_size, is_query: the grouping of a scene, which single objects lack;
                accepted so that one sampler calls every flow model alike.
            features_before: block whose input voxels (B, model_channels), ``patch_size`` times coarser than
                those of x, are returned as features; ``num_blocks`` means the output of the last one.

        Returns:
            The velocity (B, out_channels) at the same voxels, no extras.

        Raises:
            ValueError: a shape does not fit the configuration.
        """
        self._check_times(x, t)
        t_emb, conditions = self._time(t)
        with full_precision(x.device):
            h = self.input_layer(x)
        h = h.to(self.torso_dtype)
        skips = []
        for block in self.input_blocks:
            h = block(h, t_emb)
            skips.append(h)
        positions = voxel_position_embedding(h, self.config.model_channels)
        h = h.replace(h.feats + positions.to(self.torso_dtype))
        if not isinstance(cond, PreparedContext):
            cond = self._context(cond, num_object_tokens)
        h, features = self._run_blocks(h, cond, conditions, features_before=features_before)
        for block in self.out_blocks:
            skip = skips.pop()
            h = block(sparse_cat([h, skip], dim=1) if self.config.use_skip_connection else h, t_emb)
        velocity = self._velocity(h, x)
        if self.config.input_skip:
            times = t.t.expand(x.batch_size) if isinstance(t, PreparedTime) else t
            velocity = velocity.replace(velocity.feats + _linear_guess(x, times))
        return FlowOutput(velocity, features=features)

    def _check_times(self, x: SparseTensor, t: Tensor | PreparedTime) -> None:
        if not isinstance(t, PreparedTime) and t.shape != (x.batch_size,):
            raise ValueError(
                f"{type(self).__name__}: expected one time for each of {x.batch_size} batch elements, "
                f"got {tuple(t.shape)}"
            )

    def _velocity(self, h: SparseTensor, x: SparseTensor) -> SparseTensor:
        """Torso output -> velocity at the voxels of x; the released models normalise in the torso dtype."""
        h = h.apply(lambda feats: F.layer_norm(feats, feats.shape[-1:])).to(x.dtype)
        with full_precision(x.device):
            return self.out_layer(h)


def _linear_guess(x: SparseTensor, t: Tensor) -> Tensor:
    """The best linear guess (T, C) of the velocity from states x, for latents of unit variance.

    Source: x = (1 - t) x_0 + t noise and v = noise - x_0, so E[v x] / E[x^2] = (2 t - 1) / (t^2 + (1 - t)^2).
    """
    share = (t / MODEL_TIME_SCALE).clamp(0, 1)
    factor = (2 * share - 1) / (share.square() + (1 - share).square())
    return factor[x.coords[:, 0].long(), None].to(x.dtype) * x.feats
