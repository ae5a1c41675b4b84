"""Patch embeddings by the names that configurations give them."""

from __future__ import annotations

from vggt.layers.efficientnet import EfficientNetEmbed, ResidualEfficientNetEmbed
from vggt.layers.patch_embed import PatchEmbed, ResidualEmbed

PATCH_EMBEDDINGS = ("conv", "residual", "efficientnet_lite0", "residual+efficientnet_lite0")


def build_patch_embed(name: str, patch_size: int, embed_dim: int) -> PatchEmbed:
    """Make the patch embedding of a name of `PATCH_EMBEDDINGS`.

    Args:
        name: "conv", one projection; "residual", a small residual network, for patches of 8 or 16 pixels;
            "efficientnet_lite0", a network whose weights may come from ImageNet, for the same; or the sum of
            these two, the second at zero before it is trained.
        patch_size: pixels per edge of a patch.
        embed_dim: channels of the tokens.

    Raises:
        ValueError: no such name, or it has no patches of this size.
    """
    if name == "conv":
        return PatchEmbed(patch_size, embed_dim)
    if name == "residual":
        return ResidualEmbed(patch_size, embed_dim)
    if name == "efficientnet_lite0":
        return EfficientNetEmbed(patch_size, embed_dim)
    if name == "residual+efficientnet_lite0":
        return ResidualEfficientNetEmbed(patch_size, embed_dim)
    raise ValueError(
        f"build_patch_embed: expected patch_embed to be one of {list(PATCH_EMBEDDINGS)}, got {name!r}"
    )
