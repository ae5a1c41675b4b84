"""Which assets of a large scene see each other whole: overlapping groups that share the query.

Attention over all tokens of a scene grows with the square of its assets, and in groups with their number: an
asset sees all tokens of the query and of its neighbours in the order of the scene, and of every other one the
few scene tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from trellis_modules.attention import attention

FEWEST = 2
"""Assets of a group at least: the query and another one."""


@dataclass(frozen=True)
class AssetGroup:
    """Assets of a scene by their numbers.

    Attributes:
        own: those whose attention the group computes; every asset belongs to one group so.
        seen: those that they see whole, besides the query, which is number 0.
    """

    own: range
    seen: range


def asset_groups(num_assets: int, group_size: int | None) -> list[AssetGroup]:
    """Share out the assets of a scene.

    Args:
        num_assets: of the scene.
        group_size: assets that are seen whole, the query among them; None: all.

    Returns:
        One group where all assets fit into it; otherwise each owns about half as many as it sees, so that
        neighbouring groups overlap by the other half.

    Raises:
        ValueError: a group of fewer than two assets.
    """
    if group_size is not None and group_size < FEWEST:
        raise ValueError(f"asset_groups: expected groups of at least {FEWEST} assets, got {group_size}")
    if group_size is None or num_assets <= group_size:
        return [AssetGroup(range(num_assets), range(1, num_assets))]
    width, groups = group_size - 1, []
    owned = max(1, width // 2)
    for start in range(1, num_assets, owned):
        end = min(start + owned, num_assets)
        first = min(max(1, start - (width - owned) // 2), num_assets - width)
        own = range(start if groups else 0, end)  # the first one has the query, too
        groups.append(AssetGroup(own, range(first, first + width)))
    return groups


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, *, num_assets: int, num_scene_tokens: int, groups: Sequence[AssetGroup]
) -> Tensor:
    """Attention of the tokens of scenes in groups of their assets.

    Args:
        q, k, v: (S, num_assets * L, H, d) of S scenes, asset by asset, each with its scene tokens first.
        num_assets: of each scene.
        num_scene_tokens: of each asset.
        groups: of the assets, see `asset_groups`.

    Returns:
        (S, num_assets * L, H, d).
    """
    q, k, v = (part.unflatten(1, (num_assets, -1)) for part in (q, k, v))
    return torch.cat([
        attention(
            q[:, group.own.start : group.own.stop].flatten(1, 2),
            *(_seen(part, group.seen, num_scene_tokens) for part in (k, v)),
        )
        for group in groups
    ], dim=1)  # fmt: skip


def _seen(tokens: Tensor, seen: range, num_scene_tokens: int) -> Tensor:
    """Of (S, B, L, H, d) all tokens of the query and of assets that are seen, of the others scene tokens."""
    parts = [
        tokens[:, :1],
        tokens[:, 1 : seen.start, :num_scene_tokens],
        tokens[:, seen.start : seen.stop],
        tokens[:, seen.stop :, :num_scene_tokens],
    ]
    return torch.cat([part.flatten(1, 2) for part in parts], dim=1)
