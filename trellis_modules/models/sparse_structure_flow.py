"""Flow transformer over the tokens of a dense latent volume.

Source: TRELLIS, arXiv:2412.01506, sec. 3.3; attribute names are those of its released checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis_modules.devices import computed
from trellis_modules.flow_output import FlowOutput
from trellis_modules.models.patches import patchify, unpatchify
from trellis_modules.models.torso import TorsoModule, full_precision
from trellis_modules.models.transformer_config import TransformerConfig
from trellis_modules.samplers.flow_matching import PreparedTime
from trellis_modules.transformer import (
    ModulatedTransformerCrossBlock,
    TimestepEmbedder,
    absolute_position_embedding,
    initialize_transformer,
    modulation_network,
)


@dataclass(frozen=True, kw_only=True)
class SparseStructureFlowConfig(TransformerConfig):
    """Sizes of a ``SparseStructureFlowModel``; field names are the keys of the released configurations."""

    resolution: int  # latent voxels per edge
    in_channels: int
    cond_channels: int
    out_channels: int
    patch_size: int = 2  # latent voxels per token edge
    share_mod: bool = False  # one modulation network for all blocks
    qk_rms_norm_cross: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resolution % self.patch_size:
            raise ValueError(
                f"resolution {self.resolution} must be divisible by patch_size {self.patch_size}"
            )

    @property
    def tokens_per_edge(self) -> int:
        """Voxel tokens along one edge of the latent volume."""
        return self.resolution // self.patch_size


@dataclass(frozen=True)
class PreparedContext:
    """A condition projected once for every block; it does not depend on the time or the state."""

    blocks: tuple[Any, ...]  # what block.project_context returned, per block


class SparseStructureFlowModel(TorsoModule):
    """Velocity of noisy latents of single objects, given a token sequence per object."""

    #: Modulated branches of each of a block's conditions.
    _branches: tuple[int, ...] = (2,)

    def __init__(self, config: SparseStructureFlowConfig) -> None:
        super().__init__()
        self.config = config
        self._build()
        if not self.input_layer.weight.is_meta:  # else those of a file will take their place
            self.initialize_weights()
        if config.use_fp16:
            self.convert_torso(torch.float16)

    def _build(self) -> None:
        """Create the submodules; their names are checkpoint keys."""
        config = self.config
        width, patch_voxels = config.model_channels, config.patch_size**3
        self.t_embedder = TimestepEmbedder(width)
        self.adaLN_modulation = self._shared_modulation(num_branches=2)
        self.register_buffer("pos_emb", computed(self._positions))
        self.input_layer = nn.Linear(config.in_channels * patch_voxels, width)
        self.blocks = nn.ModuleList(self._make_block() for _ in range(config.num_blocks))
        self.out_layer = nn.Linear(width, config.out_channels * patch_voxels)

    def _positions(self) -> Tensor:
        """(N, C) embedding of the places of the tokens."""
        coords = torch.cartesian_prod(*[torch.arange(self.config.tokens_per_edge)] * 3)  # z fastest
        return absolute_position_embedding(coords, self.config.model_channels)

    def _shared_modulation(self, num_branches: int) -> nn.Module:
        """The network that blocks share, or, where each has its own, what hands them the embedded time."""
        config = self.config
        return modulation_network(config.model_channels, num_branches) if config.share_mod else nn.Identity()

    def _make_block(self) -> nn.Module:
        config = self.config
        return ModulatedTransformerCrossBlock(
            config.model_channels,
            config.cond_channels,
            config.heads,
            config.mlp_ratio,
            share_mod=config.share_mod,
            qk_rms_norm=config.qk_rms_norm,
            qk_rms_norm_cross=config.qk_rms_norm_cross,
        )

    def torso(self) -> Iterator[nn.Module]:
        """The transformer blocks."""
        yield self.blocks

    def initialize_weights(self) -> None:
        """Initial weights for training from scratch; the first velocity is zero."""
        initialize_transformer(self)
        for layer in (self.t_embedder.mlp[0], self.t_embedder.mlp[2]):
            nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(self.out_layer.weight)

    def precompute_context(self, cond: Tensor, num_object_tokens: int | None = None) -> PreparedContext:
        """Project a condition for all blocks, to be passed to ``forward`` in place of ``cond``.

        Args:
            cond: (B, L, cond_channels).
            num_object_tokens: as in ``forward``.

        Returns:
            Keys and values of every block; ``forward`` gives the same numbers as with ``cond`` itself.
        """
        context = self._context(cond, num_object_tokens)
        return PreparedContext(tuple(block.project_context(context) for block in self.blocks))

    def precompute_times(self, t: Tensor) -> list[PreparedTime]:
        """What all layers make of some times, to be passed to ``forward`` in place of ``t``, one at a time.

        Args:
            t: (S,) times times 1000.

        Returns:
            For each time what stands for it in all batch elements; ``forward`` gives the numbers of (B,)
            equal times, but for rounding.
        """
        t_emb = self._embed_time(t)
        conditions = self._conditions(t_emb)
        vectors = [part for block in self.blocks for part in block.vectors(*conditions)]
        rows = torch.cat([t_emb.to(self.torso_dtype), *vectors], dim=-1)
        return [PreparedTime(*pair) for pair in zip(t.split(1), rows.split(1), strict=True)]

    def forward(
        self,
        x: Tensor,
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
            x: (B, in_channels, R, R, R) noisy latents.
            t: (B,) time times 1000, or a result of ``precompute_times``.
            cond: (B, L, cond_channels), or the result of ``precompute_context``.
            num_object_tokens, scene_size, is_query: the grouping of a scene, which single objects lack;
                accepted so that one sampler calls every flow model alike.
            features_before: block whose input tokens (B, N, C) are returned as features; ``num_blocks`` means
                the output of the last one.

        Returns:
            The velocity (B, out_channels, R, R, R), no extras.

        Raises:
            ValueError: a shape does not fit the configuration.
        """
        _, conditions = self._time(t)
        if not isinstance(cond, PreparedContext):
            cond = self._context(cond, num_object_tokens)
        h, features = self._run_blocks(self._embed(x), cond, conditions, features_before=features_before)
        return FlowOutput(self._velocity(h.to(x.dtype)), features=features)

    def _embed(self, x: Tensor) -> Tensor:
        config = self.config
        expected = (config.in_channels, *[config.resolution] * 3)
        if tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"{type(self).__name__}: x must be (B, {', '.join(map(str, expected))}), got {tuple(x.shape)}"
            )
        tokens = patchify(x, config.patch_size).flatten(2).mT  # (B, N, in_channels * p^3)
        with full_precision(x.device):
            return self.input_layer(tokens) + self.pos_emb

    def _embed_time(self, t: Tensor) -> Tensor:
        with full_precision(t.device):
            return self.t_embedder(t)

    def _conditions(self, t_emb: Tensor) -> tuple[Tensor, ...]:
        """What every block is told of (S, C) embedded times, in the torso dtype."""
        return (self.adaLN_modulation(t_emb).to(self.torso_dtype),)

    def _time(self, t: Tensor | PreparedTime) -> tuple[Tensor, Sequence[tuple[Tensor, ...]]]:
        """The embedded time in the torso dtype, (B or 1, C), and the conditions of each block."""
        if not isinstance(t, PreparedTime):
            t_emb = self._embed_time(t)
            return t_emb.to(self.torso_dtype), [self._conditions(t_emb)] * len(self.blocks)
        width = self.config.model_channels
        sizes = [branches * 3 * width for branches in self._branches]
        t_emb, *parts = t.vectors.split([width, *sizes * len(self.blocks)], dim=-1)
        return t_emb, list(zip(*[iter(parts)] * len(sizes)))

    def _context(self, cond: Tensor, num_object_tokens: int | None) -> Any:
        """What every block projects of a condition."""
        if cond.ndim != 3 or cond.shape[-1] != self.config.cond_channels:
            raise ValueError(
                f"{type(self).__name__}: cond must be (B, L, {self.config.cond_channels}), "
                f"got {tuple(cond.shape)}"
            )
        return cond.to(self.torso_dtype)

    def _run_blocks(
        self,
        h: Any,
        context: Any,
        conditions: Sequence[tuple[Tensor, ...]],
        *arguments: Any,
        features_before: int | None = None,
    ) -> tuple[Any, Any]:
        """All blocks in the torso dtype.

        Args:
            h: tokens or voxels.
            context: of all blocks, or a ``PreparedContext``.
            conditions: what each block is told of the time.
            arguments: of every block, between these and its context.
            features_before: see ``forward``.

        Returns:
            The output of the last block and the features, None where no one asks for them.
        """
        if features_before is not None and not 0 <= features_before <= len(self.blocks):
            raise ValueError(
                f"{type(self).__name__}: features_before must be in [0, {len(self.blocks)}], "
                f"got {features_before}"
            )
        contexts = context.blocks if isinstance(context, PreparedContext) else [context] * len(self.blocks)
        h, features = h.to(self.torso_dtype), None
        for index, (block, told, context) in enumerate(zip(self.blocks, conditions, contexts, strict=True)):
            if index == features_before:
                features = h
            h = self.run_block(index, block, h, *told, *arguments, context)
        return h, h if features_before == len(self.blocks) else features

    def _velocity(self, h: Tensor) -> Tensor:
        """Voxel tokens (B, N, C) -> velocity (B, out_channels, R, R, R)."""
        with full_precision(h.device):
            h = self.out_layer(F.layer_norm(h, h.shape[-1:]))
        h = h.mT.unflatten(-1, [self.config.tokens_per_edge] * 3)
        return unpatchify(h, self.config.patch_size)
