"""The parts of a condition and how they are joined; light: nothing here loads a network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CondParts:
    """Which parts follow the asset tokens."""

    mask: bool = True
    scene: bool = True
    geometry: bool = True


ALL_PARTS = CondParts()
"""What released weights expect."""


def assemble_cond(
    asset_tokens: Tensor,
    mask_tokens: Tensor | None = None,
    scene_tokens: Tensor | None = None,
    geometry_feature: Tensor | None = None,
) -> Tensor:
    """Join the parts of S scenes with N assets each into the condition of the B = S * N assets.

    Args:
        asset_tokens: (B, T, C), the assets of one scene after those of another.
        mask_tokens: (B, T, C).
        scene_tokens: (S, T, C), shared by the assets of a scene.
        geometry_feature: (S, P, 2C), its frame-attention half first; the halves follow one another as tokens.

    Returns:
        (B, L, C).

    Raises:
        ValueError: the number of scenes does not divide B, or widths differ.
    """
    parts = [asset_tokens]
    if mask_tokens is not None:
        parts.append(mask_tokens)
    if scene_tokens is not None:
        parts.append(_per_asset(scene_tokens, len(asset_tokens)))
    if geometry_feature is not None:
        halves = torch.cat(geometry_feature.chunk(2, dim=-1), dim=1)  # (S, 2P, C)
        parts.append(_per_asset(halves, len(asset_tokens)))
    widths = {part.shape[-1] for part in parts}
    if len(widths) > 1:
        raise ValueError(
            f"assemble_cond: expected parts of one width, got channels {[part.shape[-1] for part in parts]}; "
            "the geometry feature must be twice as wide as the image tokens"
        )
    return torch.cat(parts, dim=1)


def _per_asset(tokens: Tensor, num_assets: int) -> Tensor:
    """Repeat the tokens of S scenes for the assets of each: (S, T, C) -> (num_assets, T, C)."""
    if num_assets % len(tokens):
        raise ValueError(f"assemble_cond: {num_assets} assets do not split evenly into {len(tokens)} scenes")
    return tokens.repeat_interleave(num_assets // len(tokens), dim=0)
