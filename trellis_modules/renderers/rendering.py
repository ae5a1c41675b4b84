"""What every renderer returns, and the reduction of supersampled pictures."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trellis_modules.renderers.backends import BlendedViews
from trellis_modules.renderers.cameras import Size, picture_shape


@dataclass(frozen=True)
class Rendering:
    """V pictures of H x W pixels; row 0 is the top.

    Attributes:
        colour: (V, H, W, 3) float over the background, or None where the object has no colour. In [0, 1] if
            the object's colours are; not clamped.
        alpha: (V, H, W) float in [0, 1], how much of the background is covered.
        depth: (V, H, W) float, camera z of what is seen (its mean where several surfaces show); 0 where
            nothing is.
        normal: (V, H, W, 3) unit face normals in the world, 0 where nothing is hit; None without surface.
        face: (V, H, W) int64, the face at the pixel's centre, -1 where nothing is hit; None without faces.
        attributes: (V, H, W, C) interpolated vertex attributes, 0 where nothing is hit; None without any.
        percent_depth: (V, H, W) float, camera z of the first sample behind which less than half of the light
            is left, 0 where more is; without gradients; only of octrees, and of voxels not by diffoctreerast.
    """

    colour: Tensor | None
    alpha: Tensor
    depth: Tensor
    normal: Tensor | None = None
    face: Tensor | None = None
    attributes: Tensor | None = None
    percent_depth: Tensor | None = None


def sample_shape(where: str, size: Size, ssaa: int) -> tuple[int, int]:
    """Rows and columns of samples of a picture of ``size`` pixels; ``where`` opens the message.

    Raises:
        ValueError: ssaa is below 1.
    """
    if ssaa < 1:
        raise ValueError(f"{where}: expected ssaa >= 1 samples per pixel and axis, got {ssaa}")
    height, width = picture_shape(size)
    return height * ssaa, width * ssaa


def reduce_samples(values: Tensor, factor: int) -> Tensor:
    """Pictures (V, H * factor, W * factor, C) at H x W, by bilinear filtering without aliasing."""
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
    layers = [blended.depth, blended.alpha]
    if blended.percent_depth is not None:
        layers.append(blended.percent_depth)
    samples = torch.cat([blended.colour, torch.stack(layers, dim=-1)], dim=-1)
    pictures = reduce_samples(samples, ssaa)
    colour, depth, alpha = pictures[..., :3], pictures[..., 3], pictures[..., 4]
    return Rendering(
        over_background(colour, alpha, background),
        alpha,
        mean_depth(depth, alpha),
        percent_depth=None if blended.percent_depth is None else pictures[..., 5].detach(),
    )
