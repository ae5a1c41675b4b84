"""What every renderer returns, and the reduction of supersampled pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trellis_modules.renderers.backends import BlendedViews


@dataclass(frozen=True)
class Rendering:
    """V pictures of S x S pixels; row 0 is the top.

    Attributes:
        colour: (V, S, S, 3) float over the background, or None where the object has no colour. In [0, 1] if
            the object's colours are; not clamped.
        alpha: (V, S, S) float in [0, 1], how much of the background is covered.
        depth: (V, S, S) float, camera z of what is seen (its mean where several surfaces show); 0 where
            nothing is.
        normal: (V, S, S, 3) unit face normals in the world, 0 where nothing is hit; None without surface.
        face: (V, S, S) int64, the face at the pixel's centre, -1 where nothing is hit; None without faces.
        attributes: (V, S, S, C) interpolated vertex attributes, 0 where nothing is hit; None without any.
    """

    colour: Tensor | None
    alpha: Tensor
    depth: Tensor
    normal: Tensor | None = None
    face: Tensor | None = None
    attributes: Tensor | None = None


def sample_size(where: str, size: int, ssaa: int) -> int:
    """Samples per edge of a picture of ``size`` pixels; ``where`` opens the message.

    Raises:
        ValueError: ssaa is below 1.
    """
    if ssaa < 1:
        raise ValueError(f"{where}: expected ssaa >= 1 samples per pixel and axis, got {ssaa}")
    return size * ssaa


def reduce_samples(values: Tensor, factor: int) -> Tensor:
    """Pictures (V, S * factor, S * factor, C) at S x S, by bilinear filtering without aliasing."""
    if factor == 1:
        return values
    return torch.nn.functional.interpolate(
        values.permute(0, 3, 1, 2), scale_factor=1 / factor, mode="bilinear", antialias=True
    ).permute(0, 2, 3, 1)


def mean_depth(weighted: Tensor, alpha: Tensor) -> Tensor:
    """Depth from its alpha-weighted sum; 0 where nothing is."""
    seen = alpha > 0
    return torch.where(seen, weighted / torch.where(seen, alpha, 1), 0)


def over_background(colour: Tensor, alpha: Tensor, background: tuple[float, float, float]) -> Tensor:
    """Alpha-weighted colours (..., 3) over a plain background."""
    return colour + (1 - alpha)[..., None] * colour.new_tensor(background)


def blended_rendering(blended: BlendedViews, background: tuple[float, float, float], ssaa: int) -> Rendering:
    """The pictures of blended volumes over a plain background, ``ssaa`` samples per pixel and axis."""
    samples = torch.cat([blended.colour, blended.depth[..., None], blended.alpha[..., None]], dim=-1)
    pictures = reduce_samples(samples, ssaa)
    colour, depth, alpha = pictures[..., :3], pictures[..., 3], pictures[..., 4]
    return Rendering(over_background(colour, alpha, background), alpha, mean_depth(depth, alpha))
