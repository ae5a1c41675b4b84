"""Transformer block with object attention and scene attention.

Each asset of a scene holds position and register tokens (together: scene tokens) in front of its voxel
tokens.  Voxel tokens attend inside their asset and to the asset's own image; then all tokens of all assets of
the scene attend to each other and each asset to its full condition (own image, mask, scene image, scene
geometry).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scenegen.models.asset_groups import asset_groups, grouped_attention
from trellis_modules.attention import CrossAttention, KeyValue, SelfAttention
from trellis_modules.transformer import (
    NORM_EPS,
    LayerNorm32,
    ModulatedTransformerCrossBlock,
    modulation_network,
    modulation_vectors,
    split_modulation,
)


class AssetCond(NamedTuple):
    """Condition of the assets of one or more batches of states, which follow each other."""

    object: Tensor  # (B / repeats, M', D), the asset's own image tokens
    scene: Tensor  # (B / repeats, M, D), all tokens of the asset's condition
    repeats: int = 1  # batches of states


class SceneContext(NamedTuple):
    """Projected condition of one block, for B / repeats states."""

    object: KeyValue
    scene: KeyValue
    repeats: int = 1  # batches of states, which follow each other

    def repeated(self) -> SceneContext:
        """The same for B states."""
        return SceneContext(self.object.repeat(self.repeats), self.scene.repeat(self.repeats))


class SceneTransformerBlock(ModulatedTransformerCrossBlock):
    """The object block with attention across assets between its attention and feed-forward parts.

    Source: SceneGen, arXiv:2508.15769, sec. 3.2.
    """

    def __init__(
        self,
        channels: int,
        context_channels: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        *,
        num_scene_tokens: int,
        share_mod: bool = False,
        qk_rms_norm: bool = False,
        qk_rms_norm_cross: bool = False,
    ) -> None:
        """``num_scene_tokens``: position and register tokens in front of the voxel tokens of each asset."""
        super().__init__(
            channels,
            context_channels,
            num_heads,
            mlp_ratio,
            share_mod=share_mod,
            qk_rms_norm=qk_rms_norm,
            qk_rms_norm_cross=qk_rms_norm_cross,
        )
        self.num_scene_tokens = num_scene_tokens
        self.norm4 = LayerNorm32(channels, eps=NORM_EPS)
        self.norm5 = LayerNorm32(channels, eps=NORM_EPS, elementwise_affine=False)
        # In the release the scene attention has no query and key norm although the object attention has one:
        # the norm of both scene layers follows qk_rms_norm_cross.
        self.global_attn = SelfAttention(channels, num_heads, qk_rms_norm_cross)
        self.global_cross_attn = CrossAttention(channels, context_channels, num_heads, qk_rms_norm_cross)
        self.adaLN_modulation_global = (
            nn.Identity() if share_mod else modulation_network(channels, num_branches=1)
        )

    def vectors(self, condition: Tensor, scene_condition: Tensor) -> tuple[Tensor, ...]:
        """The (B, 6 C) and (B, 3 C) vectors of (B, C) conditions, which ``forward`` takes in their place."""
        network = self.adaLN_modulation_global
        return *super().vectors(condition), modulation_vectors(network, scene_condition, self.channels)

    def project_context(self, context: AssetCond | SceneContext) -> SceneContext:
        """Condition -> its keys and values for all states, which ``forward`` takes too, as they are."""
        if isinstance(context, SceneContext):
            return context.repeated()
        return SceneContext(
            self.cross_attn.project_context(context.object).repeat(context.repeats),
            self.global_cross_attn.project_context(context.scene).repeat(context.repeats),
        )

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        scene_condition: Tensor,
        scene_size: int,
        group_size: int | None,
        context: AssetCond | SceneContext,
    ) -> Tensor:
        """One block on B = S * scene_size assets; all that it computes with its parameters is computed here.

        Args:
            x: (B, num_scene_tokens + N, C); the assets of a scene are neighbours on the batch axis.
            condition: (B, C), or (B or 1, 6 C) from the model's modulation network or from ``vectors``.
            scene_condition: (B, C), or likewise (B or 1, 3 C), for the scene attention.
            scene_size: assets per scene.
            group_size: assets that see each other whole, see `asset_groups`.
            context: of the B assets, or its keys and values from ``project_context``.

        Returns:
            The shape of x.  Scene tokens change in the two scene attentions only.
        """
        vectors, scene_vectors = self.vectors(condition, scene_condition)
        attn, mlp = split_modulation(vectors, self.channels)
        (scene_attn,) = split_modulation(scene_vectors, self.channels)
        context = self.project_context(context)
        x = self._on_voxels(x, partial(self.attend, modulation=attn, context=context.object))
        x = scene_attn.join(x, self._attend_scene(scene_attn.normed(self.norm4, x), scene_size, group_size))
        x = self.global_cross_attn.join(x, self.norm5, context.scene)
        return self._on_voxels(x, partial(self.feed_forward, modulation=mlp))

    def _on_voxels(self, x: Tensor, part: Callable[..., Tensor]) -> Tensor:
        """Apply a part of the object block to the voxel tokens and leave the scene tokens as they are.

        Without gradients its result is written to its place behind the scene tokens, instead of being put
        together with them.
        """
        scene_tokens, voxels = x.split([self.num_scene_tokens, x.shape[1] - self.num_scene_tokens], dim=1)
        if torch.is_grad_enabled():
            return torch.cat([scene_tokens, part(voxels)], dim=1)
        joined = torch.empty_like(x)
        joined[:, : self.num_scene_tokens] = scene_tokens
        part(voxels, out=joined[:, self.num_scene_tokens :])
        return joined

    def _attend_scene(self, x: Tensor, scene_size: int, group_size: int | None) -> Tensor:
        """Self attention over the tokens of each scene: (S * scene_size, L, C) -> the same shape."""
        tokens = x.reshape(-1, scene_size * x.shape[1], x.shape[2])  # (S, scene_size * L, C)
        groups = asset_groups(scene_size, group_size)
        if len(groups) == 1:
            return self.global_attn(tokens).reshape(x.shape)
        attend = partial(
            grouped_attention, num_assets=scene_size, num_scene_tokens=self.num_scene_tokens, groups=groups
        )
        return self.global_attn(tokens, attend=attend).reshape(x.shape)
